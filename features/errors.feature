Feature: Errors
  What a peer may not do ends its stream, names the rule that was broken, and costs nothing else: the program goes on, and
  the next connection works.

  @every-role-and-release @NOISE-17 @NOISE-18
  Scenario Outline: A handshake message changed at byte <byte> fails
    Given the implementation is the <role> and Node <release> its peer
    When they connect over a wire that changes byte <byte> of record <record> from Node
    Then the implementation destroys the stream with an error of the noise layer
    And the implementation can be connected again

    # The initiator gets the responder's message: ephemeral key, encrypted static key, tag of the payload.
    Examples: the responder's message
      | role      | record | byte |
      | initiator | 0      | 40   |
      | initiator | 0      | 95   |

    # The responder gets the initiator's second message: encrypted static key, tag of the payload.
    Examples: the initiator's second message
      | role      | record | byte |
      | responder | 1      | 0    |
      | responder | 1      | 63   |

  @every-role-and-release @STREAM-1 @STREAM-4
  Scenario Outline: A changed stream id is refused
    Given the implementation is the <role> and Node <release> its peer
    When they connect over a wire that changes byte 0 of record <record> from Node
    Then the implementation destroys the stream with an error of the secretstream layer
    And the implementation can be connected again

    Examples:
      | role      | record |
      | initiator | 1      |
      | responder | 2      |

  @every-role-and-release @STREAM-5 @STREAM-13
  Scenario Outline: A changed <what> fails at the first message
    Given the implementation is the <role> and Node <release> its peer
    When they connect over a wire that changes byte <byte> of record <record> from Node
    And Node completes the handshake
    And Node opens core A
    Then the implementation destroys the stream with an error of the secretstream layer
    And the implementation can be connected again

    Examples: the header of the encrypted stream
      | role      | record | byte | what   |
      | initiator | 1      | 55   | header |
      | responder | 2      | 55   | header |

    Examples: the first message
      | role      | record | byte | what |
      | initiator | 2      | 0    | tag  |
      | responder | 3      | 0    | tag  |
      | initiator | 2      | 10   | text |
      | responder | 3      | 10   | text |

  @every-role-and-release @STREAM-12 @STREAM-13 @FRAME-4
  Scenario Outline: A record <what> destroys the stream
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node writes the bytes "<bytes>" past its stream
    Then the implementation destroys the stream with an error of the secretstream layer
    And the implementation can be connected again

    Examples: that is not of the stream
      | bytes                                    | what          |
      | 1100000000000000000000000000000000000000 | without a MAC |

    # Node looks at a record of no bytes only when more come, so two are sent.
    Examples: that is too short
      | bytes                                  | what        |
      | 10000000000000000000000000000000000000 | of 16 bytes |
      | 01000000                               | of 1 byte   |
      | 000000000000                           | of no bytes |

  @every-role-and-release
  Scenario Outline: <what> destroys the stream
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "<plaintext>"
    Then the implementation destroys the stream with an error of the <layer> layer
    And Node sees the stream go
    And the implementation can be connected again

    @MUX-20
    Examples:
      | plaintext  | layer | what                          |
      | 01         | mux   | A record of one byte          |
      | 0000       | mux   | A batch without a channel     |
      | 00000100   | mux   | A batch that ends at a switch |
      | 0001020561 | mux   | An open cut short             |

    @MUX-5
    Examples:
      | plaintext                                                                                                                                                                                       | layer | what                               |
      | 0001090161 00                                                                                                                                                                                   | mux   | An open that skips ids             |
      | 0001010161 00                                                                                                                                                                                   | mux   | An open of an id in use            |
      | 0001ff0000000002000000 0161 00                                                                                                                                                                  | mux   | An open of channel 2^33            |
      | 0001ff0000000000000040 0161 00                                                                                                                                                                  | mux   | An open of channel 2^62            |
      | 0001ff0000000002000000 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^33 for a core |
      | 0001ff0000000000000040 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^62 for a core |

    @MUX-7
    Examples:
      | plaintext | layer | what                        |
      | 000209    | mux   | A reject of an unknown id   |
      | 000200    | mux   | A reject of id 0            |
      | 000201    | mux   | A reject of an open channel |

    @ENC-4 @MUX-1
    Examples:
      | plaintext                | layer | what                 |
      | ff0000000000002000 02 05 | mux   | A channel id of 2^53 |

    @ENC-15 @MUX-20
    Examples:
      | plaintext                    | layer | what                          |
      | 000102 ff0000000000000010 61 | mux   | A protocol name of 2^60 bytes |

    @MSG-1 @ENC-13
    Examples:
      | plaintext              | layer   | what                                   |
      | 0102                   | message | A cancel without a number              |
      | 0100 1f 00             | message | A sync cut short                       |
      | 0103 01 00 00 00 05 aa | message | A block that claims more than is there |

    @ENC-11 @ENC-15 @DATA-3
    Examples:
      | plaintext                           | layer   | what                                   |
      | 0103 02 00 00 00 fe00001000         | message | A million nodes of which none is there |
      | 0103 02 00 00 00 ff0000000001000000 | message | A count of 2^32 nodes                  |
      | 0103 02 00 00 00 ff0000000000000010 | message | A count of 2^60 nodes                  |

    @ENC-12 @ENC-15 @BITFIELD-1
    Examples:
      | plaintext                  | layer   | what                     |
      | 0107 00 ff0000000001000000 | message | A bitfield of 2^32 words |
      | 0107 00 ff0000000000000010 | message | A bitfield of 2^60 words |

    @ENC-6 @ENC-15 @DATA-2
    Examples:
      | plaintext                              | layer   | what                  |
      | 0103 01 00 00 00 ff0000000001000000 00 | message | A block of 2^32 bytes |

    @ENC-8 @ENC-15 @EXT-1
    Examples:
      | plaintext               | layer   | what                            |
      | 0109 ff0000000000000010 | message | An extension name of 2^60 bytes |

    @since-hypercore-11 @ENC-4 @CANCEL-1
    Examples:
      | plaintext               | layer   | what             |
      | 0102 ff0000000000002000 | message | A number of 2^53 |

    @MAN-9 @DATA-6
    Examples:
      | plaintext           | layer   | what                    |
      | 0103 10 00 00 09 00 | message | A manifest of version 9 |

  # Today's Node does not survive this one, so it is never the target of it.
  @every-role-and-release @never-towards-node @MUX-13 @MUX-25
  Scenario: Batches nested 3000 deep do not end the program
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends batches nested 3000 deep
    Then the implementation destroys the stream with an error of the mux layer
    And the implementation can be connected again

  @every-role-and-release @MSG-1
  Scenario: Messages before the fault are delivered
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends 10 messages on core A
    And Node sends the plaintext "0102"
    Then the implementation receives those 10 messages in order on core A
    And the implementation destroys the stream with an error of the message layer

  @every-role-and-release @RANGE-1 @MUX-25
  Scenario: A range of 2^40 blocks costs nothing
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "010800 00 ff0000000000010000"
    Then the implementation receives a range of 1099511627776 blocks on core A
    And messages pass both ways on core A
