Feature: Errors
  What a peer may not do ends its stream, names the rule that was broken, and costs nothing else: the program goes on, and
  the next connection works.

  @NOISE-17 @NOISE-18
  Scenario Outline: A handshake message changed at byte <byte> fails, as <role> with Node <release>
    Given the implementation is the <role> and Node <release> its peer
    When they connect over a wire that changes byte <byte> of record <record> from Node
    Then the implementation destroys the stream with an error of the noise layer
    And the implementation can be connected again

    # The initiator gets the responder's message: ephemeral key, encrypted static key, tag of the payload.
    Examples: the responder's message
      | role      | release | record | byte |
      | initiator | 10.38.2 | 0      | 40   |
      | initiator | 11.37.1 | 0      | 40   |
      | initiator | 10.38.2 | 0      | 95   |
      | initiator | 11.37.1 | 0      | 95   |

    # The responder gets the initiator's second message: encrypted static key, tag of the payload.
    Examples: the initiator's second message
      | role      | release | record | byte |
      | responder | 10.38.2 | 1      | 0    |
      | responder | 11.37.1 | 1      | 0    |
      | responder | 10.38.2 | 1      | 63   |
      | responder | 11.37.1 | 1      | 63   |

  @STREAM-1 @STREAM-4
  Scenario Outline: A changed stream id is refused, as <role> with Node <release>
    Given the implementation is the <role> and Node <release> its peer
    When they connect over a wire that changes byte 0 of record <record> from Node
    Then the implementation destroys the stream with an error of the secretstream layer
    And the implementation can be connected again

    Examples:
      | role      | release | record |
      | initiator | 10.38.2 | 1      |
      | initiator | 11.37.1 | 1      |
      | responder | 10.38.2 | 2      |
      | responder | 11.37.1 | 2      |

  @STREAM-5 @STREAM-13
  Scenario Outline: A changed <what> fails at the first message, as <role> with Node <release>
    Given the implementation is the <role> and Node <release> its peer
    When they connect over a wire that changes byte <byte> of record <record> from Node
    And Node completes the handshake
    And Node opens core A
    Then the implementation destroys the stream with an error of the secretstream layer
    And the implementation can be connected again

    Examples: the header of the encrypted stream
      | role      | release | record | byte | what   |
      | initiator | 10.38.2 | 1      | 55   | header |
      | initiator | 11.37.1 | 1      | 55   | header |
      | responder | 10.38.2 | 2      | 55   | header |
      | responder | 11.37.1 | 2      | 55   | header |

    Examples: the first message
      | role      | release | record | byte | what |
      | initiator | 10.38.2 | 2      | 0    | tag  |
      | initiator | 11.37.1 | 2      | 0    | tag  |
      | responder | 10.38.2 | 3      | 0    | tag  |
      | responder | 11.37.1 | 3      | 0    | tag  |
      | initiator | 10.38.2 | 2      | 10   | text |
      | initiator | 11.37.1 | 2      | 10   | text |
      | responder | 10.38.2 | 3      | 10   | text |
      | responder | 11.37.1 | 3      | 10   | text |

  @STREAM-12 @STREAM-13 @FRAME-4
  Scenario Outline: A record <what> destroys the stream, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node writes the bytes "<bytes>" past its stream
    Then the implementation destroys the stream with an error of the secretstream layer
    And the implementation can be connected again

    Examples: that is not of the stream
      | role      | release | bytes                                    | what          |
      | initiator | 10.38.2 | 1100000000000000000000000000000000000000 | without a MAC |
      | responder | 10.38.2 | 1100000000000000000000000000000000000000 | without a MAC |
      | initiator | 11.37.1 | 1100000000000000000000000000000000000000 | without a MAC |
      | responder | 11.37.1 | 1100000000000000000000000000000000000000 | without a MAC |

    # Node looks at a record of no bytes only when more come, so two are sent.
    Examples: that is too short
      | role      | release | bytes                                  | what        |
      | initiator | 10.38.2 | 10000000000000000000000000000000000000 | of 16 bytes |
      | responder | 10.38.2 | 10000000000000000000000000000000000000 | of 16 bytes |
      | initiator | 11.37.1 | 10000000000000000000000000000000000000 | of 16 bytes |
      | responder | 11.37.1 | 10000000000000000000000000000000000000 | of 16 bytes |
      | initiator | 10.38.2 | 01000000                               | of 1 byte   |
      | responder | 10.38.2 | 01000000                               | of 1 byte   |
      | initiator | 11.37.1 | 01000000                               | of 1 byte   |
      | responder | 11.37.1 | 01000000                               | of 1 byte   |
      | initiator | 10.38.2 | 000000000000                           | of no bytes |
      | responder | 10.38.2 | 000000000000                           | of no bytes |
      | initiator | 11.37.1 | 000000000000                           | of no bytes |
      | responder | 11.37.1 | 000000000000                           | of no bytes |

  Scenario Outline: <what> destroys the stream, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "<plaintext>"
    Then the implementation destroys the stream with an error of the <layer> layer
    And Node sees the stream go
    And the implementation can be connected again

    @MUX-20
    Examples:
      | role      | release | plaintext  | layer | what                          |
      | initiator | 10.38.2 | 01         | mux   | A record of one byte          |
      | responder | 10.38.2 | 01         | mux   | A record of one byte          |
      | initiator | 11.37.1 | 01         | mux   | A record of one byte          |
      | responder | 11.37.1 | 01         | mux   | A record of one byte          |
      | initiator | 10.38.2 | 0000       | mux   | A batch without a channel     |
      | responder | 10.38.2 | 0000       | mux   | A batch without a channel     |
      | initiator | 11.37.1 | 0000       | mux   | A batch without a channel     |
      | responder | 11.37.1 | 0000       | mux   | A batch without a channel     |
      | initiator | 10.38.2 | 00000100   | mux   | A batch that ends at a switch |
      | responder | 10.38.2 | 00000100   | mux   | A batch that ends at a switch |
      | initiator | 11.37.1 | 00000100   | mux   | A batch that ends at a switch |
      | responder | 11.37.1 | 00000100   | mux   | A batch that ends at a switch |
      | initiator | 10.38.2 | 0001020561 | mux   | An open cut short             |
      | responder | 10.38.2 | 0001020561 | mux   | An open cut short             |
      | initiator | 11.37.1 | 0001020561 | mux   | An open cut short             |
      | responder | 11.37.1 | 0001020561 | mux   | An open cut short             |

    @MUX-5
    Examples:
      | role      | release | plaintext                      | layer | what                    |
      | initiator | 10.38.2 | 0001090161 00                  | mux   | An open that skips ids  |
      | responder | 10.38.2 | 0001090161 00                  | mux   | An open that skips ids  |
      | initiator | 11.37.1 | 0001090161 00                  | mux   | An open that skips ids  |
      | responder | 11.37.1 | 0001090161 00                  | mux   | An open that skips ids  |
      | initiator | 10.38.2 | 0001010161 00                  | mux   | An open of an id in use |
      | responder | 10.38.2 | 0001010161 00                  | mux   | An open of an id in use |
      | initiator | 11.37.1 | 0001010161 00                  | mux   | An open of an id in use |
      | responder | 11.37.1 | 0001010161 00                  | mux   | An open of an id in use |
      | initiator | 10.38.2 | 0001ff0000000002000000 0161 00 | mux   | An open of channel 2^33 |
      | responder | 10.38.2 | 0001ff0000000002000000 0161 00 | mux   | An open of channel 2^33 |
      | initiator | 11.37.1 | 0001ff0000000002000000 0161 00 | mux   | An open of channel 2^33 |
      | responder | 11.37.1 | 0001ff0000000002000000 0161 00 | mux   | An open of channel 2^33 |
      | initiator | 10.38.2 | 0001ff0000000000000040 0161 00 | mux   | An open of channel 2^62 |
      | responder | 10.38.2 | 0001ff0000000000000040 0161 00 | mux   | An open of channel 2^62 |
      | initiator | 11.37.1 | 0001ff0000000000000040 0161 00 | mux   | An open of channel 2^62 |
      | responder | 11.37.1 | 0001ff0000000000000040 0161 00 | mux   | An open of channel 2^62 |
      | initiator | 10.38.2 | 0001ff0000000002000000 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^33 for a core |
      | responder | 10.38.2 | 0001ff0000000002000000 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^33 for a core |
      | initiator | 11.37.1 | 0001ff0000000002000000 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^33 for a core |
      | responder | 11.37.1 | 0001ff0000000002000000 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^33 for a core |
      | initiator | 10.38.2 | 0001ff0000000000000040 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^62 for a core |
      | responder | 10.38.2 | 0001ff0000000000000040 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^62 for a core |
      | initiator | 11.37.1 | 0001ff0000000000000040 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^62 for a core |
      | responder | 11.37.1 | 0001ff0000000000000040 0f 6879706572636f72652f616c706861 201111111111111111111111111111111111111111111111111111111111111111 00 2222222222222222222222222222222222222222222222222222222222222222 | mux   | An open of channel 2^62 for a core |

    @MUX-7
    Examples:
      | role      | release | plaintext | layer | what                        |
      | initiator | 10.38.2 | 000209    | mux   | A reject of an unknown id   |
      | responder | 10.38.2 | 000209    | mux   | A reject of an unknown id   |
      | initiator | 11.37.1 | 000209    | mux   | A reject of an unknown id   |
      | responder | 11.37.1 | 000209    | mux   | A reject of an unknown id   |
      | initiator | 10.38.2 | 000200    | mux   | A reject of id 0            |
      | responder | 10.38.2 | 000200    | mux   | A reject of id 0            |
      | initiator | 11.37.1 | 000200    | mux   | A reject of id 0            |
      | responder | 11.37.1 | 000200    | mux   | A reject of id 0            |
      | initiator | 10.38.2 | 000201    | mux   | A reject of an open channel |
      | responder | 10.38.2 | 000201    | mux   | A reject of an open channel |
      | initiator | 11.37.1 | 000201    | mux   | A reject of an open channel |
      | responder | 11.37.1 | 000201    | mux   | A reject of an open channel |

    @ENC-4 @MUX-1
    Examples:
      | role      | release | plaintext                | layer | what                 |
      | initiator | 10.38.2 | ff0000000000002000 02 05 | mux   | A channel id of 2^53 |
      | responder | 10.38.2 | ff0000000000002000 02 05 | mux   | A channel id of 2^53 |
      | initiator | 11.37.1 | ff0000000000002000 02 05 | mux   | A channel id of 2^53 |
      | responder | 11.37.1 | ff0000000000002000 02 05 | mux   | A channel id of 2^53 |

    @ENC-15 @MUX-20
    Examples:
      | role      | release | plaintext                    | layer | what                          |
      | initiator | 10.38.2 | 000102 ff0000000000000010 61 | mux   | A protocol name of 2^60 bytes |
      | responder | 10.38.2 | 000102 ff0000000000000010 61 | mux   | A protocol name of 2^60 bytes |
      | initiator | 11.37.1 | 000102 ff0000000000000010 61 | mux   | A protocol name of 2^60 bytes |
      | responder | 11.37.1 | 000102 ff0000000000000010 61 | mux   | A protocol name of 2^60 bytes |

    @MSG-1 @ENC-13
    Examples:
      | role      | release | plaintext              | layer   | what                                   |
      | initiator | 10.38.2 | 0102                   | message | A cancel without a number              |
      | responder | 10.38.2 | 0102                   | message | A cancel without a number              |
      | initiator | 11.37.1 | 0102                   | message | A cancel without a number              |
      | responder | 11.37.1 | 0102                   | message | A cancel without a number              |
      | initiator | 10.38.2 | 0100 1f 00             | message | A sync cut short                       |
      | responder | 10.38.2 | 0100 1f 00             | message | A sync cut short                       |
      | initiator | 11.37.1 | 0100 1f 00             | message | A sync cut short                       |
      | responder | 11.37.1 | 0100 1f 00             | message | A sync cut short                       |
      | initiator | 10.38.2 | 0103 01 00 00 00 05 aa | message | A block that claims more than is there |
      | responder | 10.38.2 | 0103 01 00 00 00 05 aa | message | A block that claims more than is there |
      | initiator | 11.37.1 | 0103 01 00 00 00 05 aa | message | A block that claims more than is there |
      | responder | 11.37.1 | 0103 01 00 00 00 05 aa | message | A block that claims more than is there |

    @ENC-11 @ENC-15 @DATA-3
    Examples:
      | role      | release | plaintext                           | layer   | what                                   |
      | initiator | 10.38.2 | 0103 02 00 00 00 fe00001000         | message | A million nodes of which none is there |
      | responder | 10.38.2 | 0103 02 00 00 00 fe00001000         | message | A million nodes of which none is there |
      | initiator | 11.37.1 | 0103 02 00 00 00 fe00001000         | message | A million nodes of which none is there |
      | responder | 11.37.1 | 0103 02 00 00 00 fe00001000         | message | A million nodes of which none is there |
      | initiator | 10.38.2 | 0103 02 00 00 00 ff0000000001000000 | message | A count of 2^32 nodes                  |
      | responder | 10.38.2 | 0103 02 00 00 00 ff0000000001000000 | message | A count of 2^32 nodes                  |
      | initiator | 11.37.1 | 0103 02 00 00 00 ff0000000001000000 | message | A count of 2^32 nodes                  |
      | responder | 11.37.1 | 0103 02 00 00 00 ff0000000001000000 | message | A count of 2^32 nodes                  |
      | initiator | 10.38.2 | 0103 02 00 00 00 ff0000000000000010 | message | A count of 2^60 nodes                  |
      | responder | 10.38.2 | 0103 02 00 00 00 ff0000000000000010 | message | A count of 2^60 nodes                  |
      | initiator | 11.37.1 | 0103 02 00 00 00 ff0000000000000010 | message | A count of 2^60 nodes                  |
      | responder | 11.37.1 | 0103 02 00 00 00 ff0000000000000010 | message | A count of 2^60 nodes                  |

    @ENC-12 @ENC-15 @BITFIELD-1
    Examples:
      | role      | release | plaintext                  | layer   | what                     |
      | initiator | 10.38.2 | 0107 00 ff0000000001000000 | message | A bitfield of 2^32 words |
      | responder | 10.38.2 | 0107 00 ff0000000001000000 | message | A bitfield of 2^32 words |
      | initiator | 11.37.1 | 0107 00 ff0000000001000000 | message | A bitfield of 2^32 words |
      | responder | 11.37.1 | 0107 00 ff0000000001000000 | message | A bitfield of 2^32 words |
      | initiator | 10.38.2 | 0107 00 ff0000000000000010 | message | A bitfield of 2^60 words |
      | responder | 10.38.2 | 0107 00 ff0000000000000010 | message | A bitfield of 2^60 words |
      | initiator | 11.37.1 | 0107 00 ff0000000000000010 | message | A bitfield of 2^60 words |
      | responder | 11.37.1 | 0107 00 ff0000000000000010 | message | A bitfield of 2^60 words |

    @ENC-6 @ENC-15 @DATA-2
    Examples:
      | role      | release | plaintext                              | layer   | what                  |
      | initiator | 10.38.2 | 0103 01 00 00 00 ff0000000001000000 00 | message | A block of 2^32 bytes |
      | responder | 10.38.2 | 0103 01 00 00 00 ff0000000001000000 00 | message | A block of 2^32 bytes |
      | initiator | 11.37.1 | 0103 01 00 00 00 ff0000000001000000 00 | message | A block of 2^32 bytes |
      | responder | 11.37.1 | 0103 01 00 00 00 ff0000000001000000 00 | message | A block of 2^32 bytes |

    @ENC-8 @ENC-15 @EXT-1
    Examples:
      | role      | release | plaintext               | layer   | what                            |
      | initiator | 10.38.2 | 0109 ff0000000000000010 | message | An extension name of 2^60 bytes |
      | responder | 10.38.2 | 0109 ff0000000000000010 | message | An extension name of 2^60 bytes |
      | initiator | 11.37.1 | 0109 ff0000000000000010 | message | An extension name of 2^60 bytes |
      | responder | 11.37.1 | 0109 ff0000000000000010 | message | An extension name of 2^60 bytes |

    @since-hypercore-11 @ENC-4 @CANCEL-1
    Examples:
      | role      | release | plaintext               | layer   | what             |
      | initiator | 10.38.2 | 0102 ff0000000000002000 | message | A number of 2^53 |
      | responder | 10.38.2 | 0102 ff0000000000002000 | message | A number of 2^53 |
      | initiator | 11.37.1 | 0102 ff0000000000002000 | message | A number of 2^53 |
      | responder | 11.37.1 | 0102 ff0000000000002000 | message | A number of 2^53 |

    @MAN-9 @DATA-6
    Examples:
      | role      | release | plaintext           | layer   | what                    |
      | initiator | 10.38.2 | 0103 10 00 00 09 00 | message | A manifest of version 9 |
      | responder | 10.38.2 | 0103 10 00 00 09 00 | message | A manifest of version 9 |
      | initiator | 11.37.1 | 0103 10 00 00 09 00 | message | A manifest of version 9 |
      | responder | 11.37.1 | 0103 10 00 00 09 00 | message | A manifest of version 9 |

  # Today's Node does not survive this one, so it is never the target of it.
  @never-towards-node @MUX-13 @MUX-25
  Scenario Outline: Batches nested 3000 deep do not end the program, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends batches nested 3000 deep
    Then the implementation destroys the stream with an error of the mux layer
    And the implementation can be connected again

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @MSG-1
  Scenario Outline: Messages before the fault are delivered, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends 10 messages on core A
    And Node sends the plaintext "0102"
    Then the implementation receives those 10 messages in order on core A
    And the implementation destroys the stream with an error of the message layer

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |

  @RANGE-1 @MUX-25
  Scenario Outline: A range of 2^40 blocks costs nothing, as <role> with Node <release>
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends the plaintext "010800 00 ff0000000000010000"
    Then the implementation receives a range of 1099511627776 blocks on core A
    And messages pass both ways on core A

    Examples:
      | role      | release |
      | initiator | 10.38.2 |
      | responder | 10.38.2 |
      | initiator | 11.37.1 |
      | responder | 11.37.1 |
