Feature: Messages
  Every message of a hypercore channel says the same to both ends, whichever of them encoded it. Hypercore 10 does not
  know some fields of today's messages: those are not compared where it is at one end.

  @CHAN-6
  Scenario Outline: <message> reaches Node, in full and at its smallest, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends <message> in full on core A
    And the implementation sends <message> at its smallest on core A
    Then Node receives <message> in full on core A
    And Node receives <message> at its smallest on core A

    @SYNC-1 @SYNC-2
    Examples: sync
      | role      | release | message |
      | initiator | 10.38.2 | sync    |
      | responder | 10.38.2 | sync    |
      | initiator | 11.37.1 | sync    |
      | responder | 11.37.1 | sync    |

    @REQ-1 @REQ-2 @REQ-3 @REQ-4 @REQ-5 @REQ-6 @REQ-7
    Examples: request
      | role      | release | message |
      | initiator | 10.38.2 | request |
      | responder | 10.38.2 | request |
      | initiator | 11.37.1 | request |
      | responder | 11.37.1 | request |

    @CANCEL-1
    Examples: cancel
      | role      | release | message |
      | initiator | 10.38.2 | cancel  |
      | responder | 10.38.2 | cancel  |
      | initiator | 11.37.1 | cancel  |
      | responder | 11.37.1 | cancel  |

    @DATA-1 @DATA-2 @DATA-3 @DATA-4 @DATA-5 @DATA-6 @NODE-1
    Examples: data
      | role      | release | message |
      | initiator | 10.38.2 | data    |
      | responder | 10.38.2 | data    |
      | initiator | 11.37.1 | data    |
      | responder | 11.37.1 | data    |

    @NODATA-1 @NODATA-2
    Examples: noData
      | role      | release | message |
      | initiator | 10.38.2 | noData  |
      | responder | 10.38.2 | noData  |
      | initiator | 11.37.1 | noData  |
      | responder | 11.37.1 | noData  |

    @WANT-1 @WANT-2
    Examples: want
      | role      | release | message |
      | initiator | 10.38.2 | want    |
      | responder | 10.38.2 | want    |
      | initiator | 11.37.1 | want    |
      | responder | 11.37.1 | want    |

    @UNWANT-1
    Examples: unwant
      | role      | release | message |
      | initiator | 10.38.2 | unwant  |
      | responder | 10.38.2 | unwant  |
      | initiator | 11.37.1 | unwant  |
      | responder | 11.37.1 | unwant  |

    @BITFIELD-1 @ENC-12
    Examples: bitfield
      | role      | release | message  |
      | initiator | 10.38.2 | bitfield |
      | responder | 10.38.2 | bitfield |
      | initiator | 11.37.1 | bitfield |
      | responder | 11.37.1 | bitfield |

    @RANGE-1 @RANGE-2 @RANGE-3
    Examples: range
      | role      | release | message |
      | initiator | 10.38.2 | range   |
      | responder | 10.38.2 | range   |
      | initiator | 11.37.1 | range   |
      | responder | 11.37.1 | range   |

    @EXT-1
    Examples: extension
      | role      | release | message   |
      | initiator | 10.38.2 | extension |
      | responder | 10.38.2 | extension |
      | initiator | 11.37.1 | extension |
      | responder | 11.37.1 | extension |

  @CHAN-6
  Scenario Outline: <message> reaches the implementation, in full and at its smallest, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends <message> in full on core A
    And Node sends <message> at its smallest on core A
    Then the implementation receives <message> in full on core A
    And the implementation receives <message> at its smallest on core A

    @SYNC-1 @SYNC-2
    Examples: sync
      | role      | release | message |
      | initiator | 10.38.2 | sync    |
      | responder | 10.38.2 | sync    |
      | initiator | 11.37.1 | sync    |
      | responder | 11.37.1 | sync    |

    @REQ-1 @REQ-2 @REQ-3 @REQ-4 @REQ-5 @REQ-6 @REQ-7
    Examples: request
      | role      | release | message |
      | initiator | 10.38.2 | request |
      | responder | 10.38.2 | request |
      | initiator | 11.37.1 | request |
      | responder | 11.37.1 | request |

    @CANCEL-1
    Examples: cancel
      | role      | release | message |
      | initiator | 10.38.2 | cancel  |
      | responder | 10.38.2 | cancel  |
      | initiator | 11.37.1 | cancel  |
      | responder | 11.37.1 | cancel  |

    @DATA-1 @DATA-2 @DATA-3 @DATA-4 @DATA-5 @DATA-6 @NODE-1
    Examples: data
      | role      | release | message |
      | initiator | 10.38.2 | data    |
      | responder | 10.38.2 | data    |
      | initiator | 11.37.1 | data    |
      | responder | 11.37.1 | data    |

    @NODATA-1 @NODATA-2
    Examples: noData
      | role      | release | message |
      | initiator | 10.38.2 | noData  |
      | responder | 10.38.2 | noData  |
      | initiator | 11.37.1 | noData  |
      | responder | 11.37.1 | noData  |

    @WANT-1 @WANT-2
    Examples: want
      | role      | release | message |
      | initiator | 10.38.2 | want    |
      | responder | 10.38.2 | want    |
      | initiator | 11.37.1 | want    |
      | responder | 11.37.1 | want    |

    @UNWANT-1
    Examples: unwant
      | role      | release | message |
      | initiator | 10.38.2 | unwant  |
      | responder | 10.38.2 | unwant  |
      | initiator | 11.37.1 | unwant  |
      | responder | 11.37.1 | unwant  |

    @BITFIELD-1 @ENC-12
    Examples: bitfield
      | role      | release | message  |
      | initiator | 10.38.2 | bitfield |
      | responder | 10.38.2 | bitfield |
      | initiator | 11.37.1 | bitfield |
      | responder | 11.37.1 | bitfield |

    @RANGE-1 @RANGE-2 @RANGE-3
    Examples: range
      | role      | release | message |
      | initiator | 10.38.2 | range   |
      | responder | 10.38.2 | range   |
      | initiator | 11.37.1 | range   |
      | responder | 11.37.1 | range   |

    @EXT-1
    Examples: extension
      | role      | release | message   |
      | initiator | 10.38.2 | extension |
      | responder | 10.38.2 | extension |
      | initiator | 11.37.1 | extension |
      | responder | 11.37.1 | extension |

  @DATA-6 @MAN-5 @MAN-6
  Scenario Outline: A manifest of version <version> passes both ways, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends data with a manifest of version <version> on core A
    Then Node receives data with a manifest of version <version> on core A
    When Node sends data with a manifest of version <version> on core A
    Then the implementation receives data with a manifest of version <version> on core A

    Examples:
      | role      | release | version |
      | initiator | 10.38.2 | 1       |
      | responder | 10.38.2 | 1       |
      | initiator | 11.37.1 | 1       |
      | responder | 11.37.1 | 1       |

    @since-hypercore-11
    Examples: that came with hypercore 11
      | role      | release | version |
      | initiator | 11.37.1 | 2       |
      | responder | 11.37.1 | 2       |
      | initiator | 11.37.1 | 3       |
      | responder | 11.37.1 | 3       |

  @MUX-10 @MUX-26
  Scenario Outline: A batch of the implementation reaches Node in order and in one record, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of the implementation are counted from here
    And the implementation sends a batch of every message in full on core A
    Then Node receives every message in full and in order on core A
    And the implementation has sent 1 record

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @MUX-10
  Scenario Outline: A batch of Node reaches the implementation in order, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the records of Node are counted from here
    And Node sends a batch of every message in full on core A
    Then the implementation receives every message in full and in order on core A
    And Node has sent 1 record

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @STREAM-8 @MUX-1
  Scenario Outline: A thousand messages each way arrive in order, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When both send 1000 messages on core A at the same time
    Then each receives those 1000 messages in order on core A

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @MSG-2 @MSG-3 @ENC-3
  Scenario Outline: <what> changes nothing, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "<plaintext>"
    Then the implementation receives cancel of request 5 on core A

    Examples:
      | role      | release | plaintext          | what                                 |
      | initiator | 10.38.2 | 010205ffff         | A byte behind a message              |
      | responder | 10.38.2 | 010205ffff         | A byte behind a message              |
      | initiator | 11.37.1 | 010205ffff         | A byte behind a message              |
      | responder | 11.37.1 | 010205ffff         | A byte behind a message              |
      | initiator | 10.38.2 | 0102fd0500         | A number in more bytes than it needs |
      | responder | 10.38.2 | 0102fd0500         | A number in more bytes than it needs |
      | initiator | 11.37.1 | 0102fd0500         | A number in more bytes than it needs |
      | responder | 11.37.1 | 0102fd0500         | A number in more bytes than it needs |
      | initiator | 10.38.2 | fd0100fd0200fd0500 | A channel and a type in three bytes  |
      | responder | 10.38.2 | fd0100fd0200fd0500 | A channel and a type in three bytes  |
      | initiator | 11.37.1 | fd0100fd0200fd0500 | A channel and a type in three bytes  |
      | responder | 11.37.1 | fd0100fd0200fd0500 | A channel and a type in three bytes  |

  @MUX-11 @MUX-12 @MUX-13 @MUX-27
  Scenario Outline: A batch with <what> is processed, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "<plaintext>"
    Then the implementation receives cancel of request 5 on core A
    And messages pass both ways on core A

    Examples:
      | role      | release | plaintext                     | what                                      |
      | initiator | 10.38.2 | 000009020209000102 02 05      | a channel that is not there, and a switch |
      | responder | 10.38.2 | 000009020209000102 02 05      | a channel that is not there, and a switch |
      | initiator | 11.37.1 | 000009020209000102 02 05      | a channel that is not there, and a switch |
      | responder | 11.37.1 | 000009020209000102 02 05      | a channel that is not there, and a switch |
      | initiator | 10.38.2 | 000001 7f 0205                | an item that claims more than is left     |
      | responder | 10.38.2 | 000001 7f 0205                | an item that claims more than is left     |
      | initiator | 11.37.1 | 000001 7f 0205                | an item that claims more than is left     |
      | responder | 11.37.1 | 000001 7f 0205                | an item that claims more than is left     |
      | initiator | 10.38.2 | 000000 05 00 01 02 02 05      | a batch inside                            |
      | responder | 10.38.2 | 000000 05 00 01 02 02 05      | a batch inside                            |
      | initiator | 11.37.1 | 000000 05 00 01 02 02 05      | a batch inside                            |
      | responder | 11.37.1 | 000000 05 00 01 02 02 05      | a batch inside                            |
      | initiator | 10.38.2 | 000000 02 03 09 00 01 02 0205 | a control message                         |
      | responder | 10.38.2 | 000000 02 03 09 00 01 02 0205 | a control message                         |
      | initiator | 11.37.1 | 000000 02 03 09 00 01 02 0205 | a control message                         |
      | responder | 11.37.1 | 000000 02 03 09 00 01 02 0205 | a control message                         |
