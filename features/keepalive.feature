Feature: Keep-alive
  An idle stream is kept open by records without content. They mean nothing, and they take part in the encryption like
  every other record.

  @FLOW-5 @STREAM-14 @MUX-19
  Scenario Outline: A keep-alive of Node is no message, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of Node are counted from here
    And Node sends a keep-alive
    Then an empty record of Node crosses the wire
    And nothing of it is reported by the implementation
    And messages pass both ways on core A

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @FLOW-5 @STREAM-14
  Scenario Outline: A keep-alive of the implementation is no message to Node, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of the implementation are counted from here
    And the implementation sends a keep-alive
    Then an empty record of the implementation crosses the wire
    And nothing of it is reported by Node
    And messages pass both ways on core A

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @FLOW-5
  Scenario Outline: An idle implementation sends keep-alives by itself, as <role> with Node <release>
    Given the implementation is the <role> and Node <release> its peer
    And the implementation keeps the stream alive every 20 ms
    When they connect over a wire that is watched
    And both complete the handshake
    And the records of the implementation are counted from here
    Then 3 empty records of the implementation cross the wire
    And the stream carries messages both ways

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @FLOW-5
  Scenario Outline: Keep-alives of an idle Node are taken, as <role> with Node <release>
    Given the implementation is the <role> and Node <release> its peer
    And Node keeps the stream alive every 20 ms
    When they connect over a wire that is watched
    And both complete the handshake
    And the records of Node are counted from here
    Then 3 empty records of Node cross the wire
    And nothing of it is reported by the implementation
    And the stream carries messages both ways

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @STREAM-8 @STREAM-14
  Scenario Outline: Keep-alives between messages lose none, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends 50 messages on core A with a keep-alive behind each
    Then the implementation receives those 50 messages in order on core A
    When the implementation sends 50 messages on core A with a keep-alive behind each
    Then Node receives those 50 messages in order on core A

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |
