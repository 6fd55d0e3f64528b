Feature: Keep-alive
  An idle stream is kept open by records without content. They mean nothing, and they take part in the encryption like
  every other record.

  @every-role-and-release @FLOW-5 @STREAM-14 @MUX-19
  Scenario: A keep-alive of Node is no message
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of Node are counted from here
    And Node sends a keep-alive
    Then an empty record of Node crosses the wire
    And nothing of it is reported by the implementation
    And messages pass both ways on core A

  @every-role-and-release @FLOW-5 @STREAM-14
  Scenario: A keep-alive of the implementation is no message to Node
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of the implementation are counted from here
    And the implementation sends a keep-alive
    Then an empty record of the implementation crosses the wire
    And nothing of it is reported by Node
    And messages pass both ways on core A

  @every-role-and-release @FLOW-5
  Scenario: An idle implementation sends keep-alives by itself
    Given the implementation is the <role> and Node <release> its peer
    And the implementation keeps the stream alive every 20 ms
    When they connect over a wire that is watched
    And both complete the handshake
    And the records of the implementation are counted from here
    Then 3 empty records of the implementation cross the wire
    And the stream carries messages both ways

  @every-role-and-release @FLOW-5
  Scenario: Keep-alives of an idle Node are taken
    Given the implementation is the <role> and Node <release> its peer
    And Node keeps the stream alive every 20 ms
    When they connect over a wire that is watched
    And both complete the handshake
    And the records of Node are counted from here
    Then 3 empty records of Node cross the wire
    And nothing of it is reported by the implementation
    And the stream carries messages both ways

  @every-role-and-release @STREAM-8 @STREAM-14
  Scenario: Keep-alives between messages lose none
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends 50 messages on core A with a keep-alive behind each
    Then the implementation receives those 50 messages in order on core A
    When the implementation sends 50 messages on core A with a keep-alive behind each
    Then Node receives those 50 messages in order on core A
