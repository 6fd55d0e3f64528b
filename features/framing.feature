Feature: Framing
  Everything on the stream is a record: a length of three bytes and a body. How TCP cuts the stream into segments must
  make no difference, and where the stream ends must.

  @every-role-and-release @FRAME-1 @STREAM-6 @STREAM-7 @STREAM-8 @STREAM-11
  Scenario: Records of every size reach Node
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends extension messages of these sizes on core A
      | 0 | 1 | 14 | 15 | 16 | 47 | 48 | 63 | 64 | 65 | 240 | 241 | 255 | 256 | 257 | 4095 | 4096 | 65500 | 65535 | 65536 | 70000 |
    Then Node receives them whole and in order on core A

  @every-role-and-release @FRAME-1 @STREAM-6 @STREAM-7 @STREAM-8 @STREAM-11
  Scenario: Records of every size reach the implementation
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends extension messages of these sizes on core A
      | 0 | 1 | 14 | 15 | 16 | 47 | 48 | 63 | 64 | 65 | 240 | 241 | 255 | 256 | 257 | 4095 | 4096 | 65500 | 65535 | 65536 | 70000 |
    Then the implementation receives them whole and in order on core A

  @every-role-and-release @FRAME-1 @FRAME-3
  Scenario: Records of several megabytes pass both ways
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends extension messages of these sizes on core A
      | 1048576 | 4000000 |
    Then Node receives them whole and in order on core A
    When Node sends extension messages of these sizes on core A
      | 1048576 | 4000000 |
    Then the implementation receives them whole and in order on core A

  # 16777198 bytes of plaintext: channel, type and a name of one letter take 4 bytes of them.
  @every-role-and-release @FRAME-2 @STREAM-15
  Scenario: The largest record passes both ways
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When the implementation sends extension messages of these sizes on core A
      | 16777194 |
    Then Node receives them whole and in order on core A
    When Node sends extension messages of these sizes on core A
      | 16777194 |
    Then the implementation receives them whole and in order on core A

  @every-role-and-release @FRAME-3
  Scenario Outline: Records cut into pieces of <piece> arrive whole
    Given the implementation, as <role>, is connected to Node <release> over a wire that delivers <piece> at a time
    And the channel of core A is open
    When the implementation sends extension messages of these sizes on core A
      | 0 | 1 | 300 | 3000 |
    Then Node receives them whole and in order on core A
    When Node sends extension messages of these sizes on core A
      | 0 | 1 | 300 | 3000 |
    Then the implementation receives them whole and in order on core A

    Examples:
      | piece   |
      | 1 byte  |
      | 2 bytes |
      | 7 bytes |

  @every-role-and-release @FRAME-3
  Scenario: Many records in one segment arrive each on its own
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And the channel of core A is open
    When the wire holds back what Node sends
    And Node sends 100 messages on core A
    And the wire lets those 100 records of Node go in one piece
    Then the implementation receives those 100 messages in order on core A
    When the wire holds back what the implementation sends
    And the implementation sends 100 messages on core A
    And the wire lets those 100 records of the implementation go in one piece
    Then Node receives those 100 messages in order on core A

  @every-role-and-release @FRAME-5 @FLOW-6
  Scenario Outline: An end <where> is reported as truncation
    Given the implementation, as <role>, is connected to Node <release>
    When Node writes the bytes "<bytes>" past its stream
    And Node ends the stream
    Then the implementation reports a "truncated" error of the frame layer
    And the implementation reports no clean end
    And the stream of the implementation is gone

    Examples: within the length
      | bytes | where                         |
      | 20    | after one byte of the length  |
      | 2000  | after two bytes of the length |

    Examples: within the body
      | bytes    | where           |
      | 200000   | before the body |
      | 200000aa | within the body |

  @every-role-and-release @FRAME-5 @FLOW-6
  Scenario: An end between two records is clean
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    When Node sends sync in full on core A
    And Node ends the stream
    Then the implementation receives sync in full on core A
    And the implementation reports a clean end
