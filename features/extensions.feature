Feature: Extensions
  An application sends messages of its own by name. A name that is that of the message before is left out, so both ends
  have to remember it, for each channel and each direction apart.

  @every-role-and-release @EXT-1
  Scenario: A named message reaches the other end, both ways
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends "00ff" to the extension "example" on core A
    Then Node receives "00ff" for the extension "example" on core A
    When Node sends "ff00" to the extension "example" on core A
    Then the implementation receives "ff00" for the extension "example" on core A

  @every-role-and-release @EXT-2
  Scenario: A repeated name is understood, both ways
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends "01", "02" and "03" to the extension "example" on core A
    Then Node receives "01", "02" and "03" for the extension "example" on core A
    When Node sends "04", "05" and "06" to the extension "example" on core A
    Then the implementation receives "04", "05" and "06" for the extension "example" on core A

  @every-role-and-release @EXT-2
  Scenario: A name is sent again after another, both ways
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends to the extensions "one", "two", "two" and "one" on core A
    Then Node receives for the extensions "one", "two", "two" and "one" on core A
    When Node sends to the extensions "two", "one", "one" and "two" on core A
    Then the implementation receives for the extensions "two", "one", "one" and "two" on core A

  @every-role-and-release @EXT-2
  Scenario: The name is remembered for each channel apart
    Given the implementation, as <role>, is connected to Node <release>
    And the channels of cores A, B and C are open
    When Node sends "01" to the extension "of/a" on core A
    And Node sends "02" to the extension "of/b" on core B
    And Node sends "03" to the extension "of/a" on core A
    Then the implementation receives "01" for the extension "of/a" on core A
    And the implementation receives "02" for the extension "of/b" on core B
    And the implementation receives "03" for the extension "of/a" on core A
    When the implementation sends "04" to the extension "of/a" on core A
    And the implementation sends "05" to the extension "of/b" on core B
    And the implementation sends "06" to the extension "of/a" on core A
    Then Node receives "04" for the extension "of/a" on core A
    And Node receives "05" for the extension "of/b" on core B
    And Node receives "06" for the extension "of/a" on core A

  @every-role-and-release @EXT-1 @ENC-8
  Scenario: Names of any characters and empty messages pass
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends "" to the extension "日本語 / ünïcode 🚀" on core A
    Then Node receives "" for the extension "日本語 / ünïcode 🚀" on core A
    When Node sends "" to the extension "日本語 / ünïcode 🚀" on core A
    Then the implementation receives "" for the extension "日本語 / ünïcode 🚀" on core A
