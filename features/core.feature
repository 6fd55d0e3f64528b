Feature: A real Hypercore
  The peer is Node's Hypercore itself: it greets, announces what it has, answers requests with data, and takes data from
  the implementation only if it is right to the last bit.

  @every-role-and-release @FLOW-1 @FLOW-2 @SYNC-1 @SYNC-2 @RANGE-1
  Scenario Outline: A <kind> core greets with sync and says what it has
    Given the implementation, as <role>, is connected to Node <release>
    When Node replicates a <kind> core R of 8 blocks
    Then the implementation is told of core R by its discovery key
    When the implementation opens core R
    Then the channel of core R is open at the implementation
    And the implementation receives the greeting of a core of 8 blocks on core R

    Examples:
      | kind    |
      | compat  |
      | default |

  @every-role-and-release @FLOW-3 @REQ-1 @REQ-2 @REQ-5 @DATA-1 @DATA-2 @DATA-5 @NODE-1
  Scenario: A request for a block and an upgrade is answered
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When the implementation asks core R for block 3 and an upgrade to 8
    Then the implementation gets block 3 and a signed upgrade to 8

  @every-role-and-release @FLOW-3 @REQ-2 @REQ-5 @DATA-2 @DATA-5
  Scenario: A compat core answers too
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a compat core R of 8 blocks, which the implementation has open
    When the implementation asks core R for block 3 and an upgrade to 8
    Then the implementation gets block 3 and a signed upgrade to 8

  @every-role-and-release @FLOW-3 @REQ-3 @DATA-3 @NODE-1
  Scenario: A request for a hash is answered
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When the implementation asks core R for the hash of node 6
    Then the implementation gets the hash of node 6

  @every-role-and-release @FLOW-3 @REQ-4 @DATA-4
  Scenario: A request to seek is answered
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When the implementation asks core R to seek to byte 20 with an upgrade to 8
    Then the implementation gets nodes for byte 20

  @every-role-and-release @FLOW-3 @REQ-6 @DATA-6 @MAN-5 @MAN-10
  Scenario: A request for the manifest is answered
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When the implementation asks core R for its manifest
    Then the implementation gets a manifest of version 1 with 1 signer

  @every-role-and-release @FLOW-3 @NODATA-1 @NODATA-2
  Scenario Outline: A request for <what> is answered by noData
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When the implementation asks core R for block <block> of fork <fork>
    Then the implementation gets noData

    Examples:
      | block | fork | what            |
      | 800   | 0    | an absent block |
      | 3     | 5    | another fork    |

  @every-role-and-release @CANCEL-1 @FLOW-3
  Scenario: A cancelled request costs no other
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When the implementation asks core R for block 2 and cancels that at once
    And the implementation asks core R for block 5
    Then the implementation gets block 5

  @every-role-and-release @FLOW-2 @SYNC-1 @RANGE-1 @RANGE-2
  Scenario: Blocks that are appended are announced
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When Node appends 2 blocks to its core
    Then the implementation receives a sync of length 10 on core R
    And the implementation receives a range up to 10 on core R

  @every-role-and-release @EXT-1 @EXT-2
  Scenario: An extension of a core talks with the implementation
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When the implementation sends "01", "02" and "03" to the extension "example" on core R
    Then the core of Node receives "01", "02" and "03" for the extension "example"
    When the core of Node sends "04", "05" and "06" to the extension "example"
    Then the implementation receives "04", "05" and "06" for the extension "example" on core R

  # hypercore 10 keeps a session open for as long as it replicates, and so the channel.
  @every-role-and-release @MUX-8
  Scenario Outline: A core that is closed closes its channel
    Given the implementation, as <role>, is connected to Node <release>
    And the channel of core A is open
    And Node replicates a default core R of 8 blocks, which the implementation has open
    When Node closes its core
    Then the implementation sees the channel of core R closed, by the other end
    And messages pass both ways on core A

    Examples:
      | release |
      | 11.37.1 |

  @every-role-and-release @FLOW-3 @REQ-5 @REQ-6 @DATA-2 @DATA-5 @DATA-6 @TREE-1 @TREE-2 @TREE-3 @TREE-4 @TREE-6
  Scenario: Node reads a core from the implementation and verifies it
    Given the implementation, as <role>, is connected to Node <release>
    And Node replicates a default core R of 8 blocks, which the implementation has open
    And the implementation has fetched all of core R
    When they connect again
    And Node replicates core R, of which it has nothing
    And the implementation opens core R and announces 8 blocks
    And Node reads block 3 while the implementation answers its requests
    Then Node has block 3

  @every-role-and-release @MUX-26 @MUX-28 @FLOW-3
  Scenario: Requests in one batch are answered by one record
    Given the implementation, as <role>, is connected to Node <release> over a wire that is watched
    And Node replicates a default core R of 8 blocks, which the implementation has open
    # What Node says in answer to the greeting comes before this block.
    When the implementation asks core R for block 0
    Then the implementation gets block 0
    When the records of Node are counted from here
    And the implementation asks core R for blocks 3 and 1 in one batch
    Then the implementation gets blocks 3 and 1
    And Node has sent 1 record
    When the records of Node are counted from here
    And the implementation asks core R for block 2
    And the implementation asks core R for block 4
    Then the implementation gets block 4
    And Node has sent 2 records
