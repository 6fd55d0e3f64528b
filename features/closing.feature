Feature: Closing
  A stream ends cleanly, breaks off, or is destroyed, and both programs can tell which. What an end accepted before a clean
  end reaches the other.

  @every-role-and-release @FLOW-6 @FRAME-5
  Scenario: The implementation ends the stream
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation ends the stream
    Then Node reports a clean end
    And both see the channel of core A closed, by the stream
    And both see the stream go
    And nobody has reported an error

  @every-role-and-release @FLOW-6 @FRAME-5
  Scenario: Node ends the stream
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node ends the stream
    Then the implementation reports a clean end
    And both see the channel of core A closed, by the stream
    And both see the stream go
    And nobody has reported an error

  @every-role-and-release @FLOW-6
  Scenario: Both end the stream at the same time
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When both end the stream at the same time
    Then both see the stream go
    And nobody has reported an error

  @every-role-and-release @FLOW-6
  Scenario: Node resets the connection
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node resets the connection
    Then the implementation destroys the stream with an error of the connection layer
    And the implementation reports no clean end
    And the implementation can be connected again

  @every-role-and-release @FLOW-6
  Scenario: The implementation resets the connection
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation resets the connection
    Then Node destroys the stream with an error of the connection layer
    And Node reports no clean end
    And the implementation can be connected again

  @every-role-and-release @FLOW-6
  Scenario: Nothing that the implementation accepted is lost when it ends
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends 300 messages on core A
    And the implementation ends the stream
    Then Node receives those 300 messages in order on core A
    And Node reports a clean end

  @every-role-and-release @FLOW-6
  Scenario: Nothing that Node accepted is lost when it ends
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends 300 messages on core A
    And Node ends the stream
    Then the implementation receives those 300 messages in order on core A
    And the implementation reports a clean end

  @every-role-and-release @FLOW-6
  Scenario: Nothing is lost when both end with messages on the way
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When both send 200 messages on core A at the same time
    And both end the stream at the same time
    Then each receives those 200 messages in order on core A
    And both see the stream go

  # More than the operating system takes for a peer that does not read.
  @every-role-and-release @FLOW-6 @FRAME-5
  Scenario: The implementation writes out all it has before the end
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the wire takes nothing from the implementation
    And the implementation sends extension messages of these sizes on core A
      | 8000000 |
    And the implementation ends the stream
    And the wire takes everything from the implementation again
    Then Node receives them whole and in order on core A
    And Node reports a clean end

  @every-role-and-release @FLOW-6 @FRAME-5
  Scenario: Node writes out all it has before the end
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the wire takes nothing from Node
    And Node sends extension messages of these sizes on core A
      | 8000000 |
    And Node ends the stream
    And the wire takes everything from Node again
    Then the implementation receives them whole and in order on core A
    And the implementation reports a clean end

  @every-role-and-release @MUX-8 @MUX-16
  Scenario: Nothing is lost when a channel is closed behind its messages
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends 100 messages on core A
    And the implementation closes core A
    Then Node receives those 100 messages in order on core A
    And Node sees the channel of core A closed, by the other end
    When the implementation opens core A
    And Node opens core A
    And Node sends 100 messages on core A
    And Node closes core A
    Then the implementation receives those 100 messages in order on core A
    And the implementation sees the channel of core A closed, by the other end

  @every-role-and-release @MUX-16
  Scenario: Messages that cross a close are ignored
    Given the implementation, as <role>, is connected to Node <release>
    And the channels of cores A, B and C are open
    When the implementation closes core A while Node sends 50 messages on it
    Then Node sees the channel of core A closed, by the other end
    And messages pass both ways on core B

  @every-role-and-release @FLOW-9
  Scenario Outline: A socket that fails to <direction>, for it <cause>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the socket of the implementation fails to <direction>, for it <cause>
    And the implementation sends a message on core A, if it still can
    Then the implementation destroys the stream with an error of the connection layer
    And the implementation reports no clean end
    And the implementation takes nothing more to send on core A
    And the implementation can be connected again

    Examples:
      | direction | cause        |
      | read      | timed out    |
      | read      | has no route |
      | write     | is broken    |

  @every-role-and-release @FLOW-9
  Scenario: A socket that fails within a record
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends 10 messages on core A
    And Node writes the bytes "40000000112233" past its stream
    Then the implementation receives those 10 messages in order on core A
    When the socket of the implementation fails to read, for it timed out
    Then the implementation destroys the stream with an error of the connection layer
    And the implementation reports no clean end
    And the implementation takes nothing more to send on core A
    And the implementation can be connected again
