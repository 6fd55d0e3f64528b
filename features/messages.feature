Feature: Messages
  Every message of a hypercore channel says the same to both ends, whichever of them encoded it. Hypercore 10 does not
  know some fields of today's messages: those are not compared where it is at one end.

  @every-role-and-release @CHAN-6
  Scenario Outline: <message> reaches Node, in full and at its smallest
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends <message> in full on core A
    And the implementation sends <message> at its smallest on core A
    Then Node receives <message> in full on core A
    And Node receives <message> at its smallest on core A

    @SYNC-1 @SYNC-2
    Examples: sync
      | message |
      | sync    |

    @REQ-1 @REQ-2 @REQ-3 @REQ-4 @REQ-5 @REQ-6 @REQ-7
    Examples: request
      | message |
      | request |

    @CANCEL-1
    Examples: cancel
      | message |
      | cancel  |

    @DATA-1 @DATA-2 @DATA-3 @DATA-4 @DATA-5 @DATA-6 @NODE-1
    Examples: data
      | message |
      | data    |

    @NODATA-1 @NODATA-2
    Examples: noData
      | message |
      | noData  |

    @WANT-1 @WANT-2
    Examples: want
      | message |
      | want    |

    @UNWANT-1
    Examples: unwant
      | message |
      | unwant  |

    @BITFIELD-1 @ENC-12
    Examples: bitfield
      | message  |
      | bitfield |

    @RANGE-1 @RANGE-2 @RANGE-3
    Examples: range
      | message |
      | range   |

    @EXT-1
    Examples: extension
      | message   |
      | extension |

  @every-role-and-release @CHAN-6
  Scenario Outline: <message> reaches the implementation, in full and at its smallest
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends <message> in full on core A
    And Node sends <message> at its smallest on core A
    Then the implementation receives <message> in full on core A
    And the implementation receives <message> at its smallest on core A

    @SYNC-1 @SYNC-2
    Examples: sync
      | message |
      | sync    |

    @REQ-1 @REQ-2 @REQ-3 @REQ-4 @REQ-5 @REQ-6 @REQ-7
    Examples: request
      | message |
      | request |

    @CANCEL-1
    Examples: cancel
      | message |
      | cancel  |

    @DATA-1 @DATA-2 @DATA-3 @DATA-4 @DATA-5 @DATA-6 @NODE-1
    Examples: data
      | message |
      | data    |

    @NODATA-1 @NODATA-2
    Examples: noData
      | message |
      | noData  |

    @WANT-1 @WANT-2
    Examples: want
      | message |
      | want    |

    @UNWANT-1
    Examples: unwant
      | message |
      | unwant  |

    @BITFIELD-1 @ENC-12
    Examples: bitfield
      | message  |
      | bitfield |

    @RANGE-1 @RANGE-2 @RANGE-3
    Examples: range
      | message |
      | range   |

    @EXT-1
    Examples: extension
      | message   |
      | extension |

  @every-role-and-release @DATA-6 @MAN-5 @MAN-6
  Scenario Outline: A manifest of version <version> passes both ways
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends data with a manifest of version <version> on core A
    Then Node receives data with a manifest of version <version> on core A
    When Node sends data with a manifest of version <version> on core A
    Then the implementation receives data with a manifest of version <version> on core A

    Examples:
      | version |
      | 1       |

    @since-hypercore-11
    Examples: that came with hypercore 11
      | release | version |
      | 11.37.1 | 2       |
      | 11.37.1 | 3       |

  @every-role-and-release @MUX-10 @MUX-26
  Scenario: A batch of the implementation reaches Node in order and in one record
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of the implementation are counted from here
    And the implementation sends a batch of every message in full on core A
    Then Node receives every message in full and in order on core A
    And the implementation has sent 1 record

  @every-role-and-release @MUX-10
  Scenario: A batch of Node reaches the implementation in order
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of Node are counted from here
    And Node sends a batch of every message in full on core A
    Then the implementation receives every message in full and in order on core A
    And Node has sent 1 record

  @every-role-and-release @STREAM-8 @MUX-1
  Scenario: A thousand messages each way arrive in order
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When both send 1000 messages on core A at the same time
    Then each receives those 1000 messages in order on core A

  @every-role-and-release @MSG-2 @MSG-3 @ENC-3
  Scenario Outline: <what> changes nothing
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "<plaintext>"
    Then the implementation receives cancel of request 5 on core A

    Examples:
      | plaintext          | what                                 |
      | 010205ffff         | A byte behind a message              |
      | 0102fd0500         | A number in more bytes than it needs |
      | fd0100fd0200fd0500 | A channel and a type in three bytes  |

  @every-role-and-release @MUX-11 @MUX-12 @MUX-13 @MUX-27
  Scenario Outline: A batch with <what> is processed
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "<plaintext>"
    Then the implementation receives cancel of request 5 on core A
    And messages pass both ways on core A

    Examples:
      | plaintext                     | what                                      |
      | 000009020209000102 02 05      | a channel that is not there, and a switch |
      | 000001 7f 0205                | an item that claims more than is left     |
      | 000000 05 00 01 02 02 05      | a batch inside                            |
      | 000000 02 03 09 00 01 02 0205 | a control message                         |
