Feature: Channels
  Many channels share one stream. Either end opens them, each numbers its own, and either end closes them.

  @every-role-and-release @CHAN-7 @MUX-4 @MUX-14
  Scenario: The implementation opens first
    Given the implementation, as <role>, is connected to Node <release>
    When the implementation opens core A
    Then Node is told of core A by its discovery key
    When Node opens core A
    Then the channel of core A is open at both ends
    And messages pass both ways on core A

  @every-role-and-release @CHAN-7 @MUX-4 @MUX-14
  Scenario: Node opens first
    Given the implementation, as <role>, is connected to Node <release>
    When Node opens core A
    Then the implementation is told of core A by its discovery key
    When the implementation opens core A
    Then the channel of core A is open at both ends
    And messages pass both ways on core A

  @every-role-and-release @CHAN-7 @MUX-14
  Scenario: Both open at the same time
    Given the implementation, as <role>, is connected to Node <release>
    When both open core A at the same time
    Then the channel of core A is open at both ends
    And messages pass both ways on core A

  @every-role-and-release @MUX-1 @MUX-2
  Scenario: Messages on several channels reach the right one
    Given the implementation, as <role>, is connected to Node <release>
    And the channels of cores A, B and C are open
    Then messages pass both ways on core B
    And messages pass both ways on core C
    And messages pass both ways on core A
    And 20 messages that alternate between cores A, B and C arrive in order on each of them

  @every-role-and-release @MUX-2 @MUX-14
  Scenario: Channels pair by name though they are opened in another order
    Given the implementation, as <role>, is connected to Node <release>
    When the implementation opens core A
    And the implementation opens core B
    And the implementation opens core C
    And Node opens core C
    And Node opens core A
    And Node opens core B
    Then the channel of core A is open at both ends
    And the channel of core B is open at both ends
    And the channel of core C is open at both ends
    And 20 messages that alternate between cores A, B and C arrive in order on each of them

  @every-role-and-release @MUX-8
  Scenario: The implementation closes a channel
    Given the implementation, as <role>, is connected to Node <release>
    And the channels of cores A, B and C are open
    When the implementation closes core B
    Then the implementation sees the channel of core B closed, by itself
    And Node sees the channel of core B closed, by the other end
    And messages pass both ways on core A
    And messages pass both ways on core C

  @every-role-and-release @MUX-8
  Scenario: Node closes a channel
    Given the implementation, as <role>, is connected to Node <release>
    And the channels of cores A, B and C are open
    When Node closes core B
    Then Node sees the channel of core B closed, by itself
    And the implementation sees the channel of core B closed, by the other end
    And messages pass both ways on core A
    And messages pass both ways on core C

  @every-role-and-release @MUX-8 @MUX-9
  Scenario: Both close a channel at the same time
    Given the implementation, as <role>, is connected to Node <release>
    And the channels of cores A, B and C are open
    When both close core B at the same time
    Then neither end has core B open
    And messages pass both ways on core A

  @every-role-and-release @MUX-5 @MUX-22
  Scenario Outline: A closed channel is opened again, by <first> first
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation closes core A
    Then Node sees the channel of core A closed, by the other end
    When <first> opens core A
    And <second> opens core A
    Then the channel of core A is open at both ends
    And messages pass both ways on core A
    When Node closes core A
    Then the implementation sees the channel of core A closed, by the other end
    When <first> opens core A
    And <second> opens core A
    Then the channel of core A is open at both ends
    And messages pass both ways on core A

    Examples:
      | first              | second             |
      | the implementation | Node               |
      | Node               | the implementation |

  @every-role-and-release @MUX-6 @MUX-22
  Scenario: What was rejected can be opened later
    Given the implementation, as <role>, is connected to Node <release>
    When Node opens core A
    Then the implementation is told of core A by its discovery key
    When the implementation rejects core A
    Then Node sees the channel of core A closed, for it was rejected
    When the implementation opens core A
    And Node opens core A
    Then the channel of core A is open at both ends
    And messages pass both ways on core A

  @every-role-and-release @MUX-15
  Scenario: The implementation keeps Node's messages before the answer
    Given the implementation, as <role>, is connected to Node <release>
    When Node opens core A
    And Node sends 30 messages on core A
    Then the implementation is told of core A by its discovery key
    When the implementation opens core A
    Then the channel of core A is open at the implementation
    And the implementation receives those 30 messages in order on core A

  @every-role-and-release @MUX-15
  Scenario: Node keeps the implementation's messages before the answer
    Given the implementation, as <role>, is connected to Node <release>
    When the implementation opens core A
    And the implementation sends the plaintext "01 02 05"
    And the implementation sends the plaintext "01 02 06"
    Then Node is told of core A by its discovery key
    When Node opens core A
    Then the channel of core A is open at both ends
    And Node receives cancel of request 5 on core A
    And Node receives cancel of request 6 on core A

  @every-role-and-release @MUX-21 @MUX-6
  Scenario: A channel of an unknown protocol is rejected
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node opens a channel of the protocol "not/hypercore"
    Then Node sees that channel closed, for it was rejected
    And messages pass both ways on core A

  @every-role-and-release @MUX-9 @MUX-16 @MUX-17 @MUX-18 @MUX-19
  Scenario Outline: <what> is ignored
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "<plaintext>"
    Then nothing of it is reported by the implementation
    And messages pass both ways on core A

    Examples: for channels that are not there
      | plaintext | what                                |
      | 000309    | A close of an unknown channel       |
      | 000300    | A close of channel 0                |
      | 090201    | A message on a channel never opened |

    Examples: of types that are not known
      | plaintext  | what                        |
      | 010cffff   | A message of type 12        |
      | 01fd0001ff | A message of type 256       |
      | 0009ffff   | A control message of type 9 |

  @every-role-and-release @MUX-22 @MUX-25
  Scenario: A hundred channels are open at once
    Given the implementation, as <role>, is connected to Node <release>
    When both open 100 cores
    Then a message passes both ways on each of them
    When the implementation closes every second one of them
    Then a message passes both ways on each of the others
