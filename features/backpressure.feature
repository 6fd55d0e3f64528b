Feature: Backpressure
  An end that sends faster than the other reads lets whoever sends wait, and does not hold all of it in memory. Nothing that it
  took is lost by that.

  @every-role-and-release @FLOW-8
  Scenario: A sender waits while the other end reads nothing
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the wire takes nothing from the implementation
    And the implementation sends blocks of 262144 bytes on core A until it has to wait, at most 128
    Then the implementation has to wait
    When the wire takes everything from the implementation again
    Then Node receives all of those blocks on core A
    And messages pass both ways on core A

  @every-role-and-release @FLOW-8
  Scenario: What arrives is told while a sender waits
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the wire takes nothing from the implementation
    And the implementation sends blocks of 262144 bytes on core A until it has to wait, at most 128
    And Node sends 10 messages on core A
    Then the implementation has to wait
    And the implementation receives those 10 messages in order on core A
    When the wire takes everything from the implementation again
    Then Node receives all of those blocks on core A
