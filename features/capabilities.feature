Feature: Capabilities
  A channel is named by the discovery key of a core, which gives nothing away. That an end knows the key itself it proves
  with a capability, which is bound to the handshake and to its role.

  @every-role-and-release @KEY-3 @KEY-6 @KEY-7 @KEY-8 @CHAN-1 @CHAN-2 @CHAN-7
  Scenario: Two ends that know the same key open its channel
    Given the implementation, as <role>, is connected to Node <release>
    When the implementation opens core A
    And Node opens core A
    Then the channel of core A is open at both ends
    And both ends say that they can seek

  @every-role-and-release @CHAN-3 @KEY-7
  Scenario: A wrong capability destroys the stream
    Given the implementation, as <role>, is connected to Node <release>
    And the implementation has opened core A
    When Node opens core A with a capability of another key
    Then the implementation destroys the stream with an error of the channel layer
    And Node sees the stream go

  @every-role-and-release @CHAN-3 @KEY-8
  Scenario: A capability that is sent back to its maker destroys the stream
    Given the implementation, as <role>, is connected to Node <release>
    And the implementation has opened core A
    When Node opens core A with the capability of the implementation
    Then the implementation destroys the stream with an error of the channel layer

  @every-role-and-release @CHAN-3
  Scenario: A wrong capability is refused too where the remote opened first
    Given the implementation, as <role>, is connected to Node <release>
    When Node opens core A with a capability of another key
    Then the implementation is told of core A by its discovery key
    When the implementation opens core A
    Then the implementation destroys the stream with an error of the channel layer

  @every-role-and-release @CHAN-3
  Scenario: Node refuses a wrong capability, and the implementation survives it
    Given the implementation, as <role>, is connected to Node <release>
    And Node has opened core A
    When the implementation opens core A with a capability of another key
    Then Node destroys the stream with an error of the channel layer
    And the implementation sees the stream go
    And the implementation can be connected again

  @every-role-and-release @CHAN-4
  Scenario: Unknown flags in the handshake of a channel are ignored
    Given the implementation, as <role>, is connected to Node <release>
    And the implementation has opened core A
    When Node opens core A with its capability and the flags "fc"
    Then the channel of core A is open at the implementation

  @every-role-and-release @CHAN-5
  Scenario Outline: A channel handshake of <length> bytes destroys the stream
    Given the implementation, as <role>, is connected to Node <release>
    And the implementation has opened core A
    When Node opens core A with the first <length> bytes of its handshake
    Then the implementation destroys the stream with an error of the channel layer

    Examples:
      | length |
      | 0      |
      | 32     |

  @every-role-and-release @FLOW-7 @KEY-3
  Scenario: A core that is unknown is announced by its discovery key
    Given the implementation, as <role>, is connected to Node <release>
    When Node opens core A
    Then the implementation is told of core A by its discovery key
    When the implementation opens core A
    Then the channel of core A is open at both ends

  @every-role-and-release @FLOW-7 @MUX-6
  Scenario: A core that is unknown can be rejected
    Given the implementation, as <role>, is connected to Node <release>
    When Node opens core A
    Then the implementation is told of core A by its discovery key
    When the implementation rejects core A
    Then Node sees the channel of core A closed, for it was rejected
    And the stream carries messages both ways

  @every-role-and-release @FLOW-7 @MUX-6
  Scenario: Node rejects a core that it does not know
    Given the implementation, as <role>, is connected to Node <release>
    When the implementation opens core A
    Then Node is told of core A by its discovery key
    When Node rejects core A
    Then the implementation sees the channel of core A closed, for it was rejected
    And the stream carries messages both ways
