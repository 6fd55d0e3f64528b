Feature: Handshake
  Two ends that meet on a stream agree on keys with Noise XX, prove that they hold their static keys, and then send each
  other the id and the header of their encrypted streams.

  @every-role-and-release @FLOW-4 @NOISE-1 @NOISE-8 @NOISE-14 @NOISE-15 @NOISE-16 @NOISE-18 @FRAME-6 @STREAM-1 @STREAM-2
  Scenario: Both ends complete the handshake and agree
    Given the implementation is the <role> and Node <release> its peer
    When they connect
    Then both complete the handshake
    And both have the same handshake hash of 64 bytes
    And each knows the public key of the other
    And the implementation says that it is the <role>

  @every-role-and-release @NOISE-3 @NOISE-19 @KEY-4
  Scenario: A fixed key pair of the implementation is what Node sees
    Given the implementation is the <role> and Node <release> its peer
    And the implementation has the key pair of the seed "0101010101010101010101010101010101010101010101010101010101010101"
    When they connect
    Then both complete the handshake
    And Node sees the public key "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"

  @every-role-and-release @NOISE-3 @NOISE-19 @KEY-4
  Scenario: A fixed key pair of Node is what the implementation sees
    Given the implementation is the <role> and Node <release> its peer
    And Node has the key pair of the seed "0202020202020202020202020202020202020202020202020202020202020202"
    When they connect
    Then both complete the handshake
    And the implementation sees the public key "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"

  @every-role-and-release @NOISE-8 @NOISE-15
  Scenario: The same key pairs never give the same handshake hash twice
    Given the implementation is the <role> and Node <release> its peer
    And the implementation has the key pair of the seed "0101010101010101010101010101010101010101010101010101010101010101"
    And Node has the key pair of the seed "0202020202020202020202020202020202020202020202020202020202020202"
    When they connect
    And both complete the handshake
    And they connect again
    Then both complete the handshake
    And the handshake hash is not that of the first time

  @every-role-and-release @NOISE-19
  Scenario: Without a fixed key pair every connection has a new one
    Given the implementation is the <role> and Node <release> its peer
    When they connect
    And both complete the handshake
    And they connect again
    Then both complete the handshake
    And the public key of the implementation is not that of the first time

  @every-role-and-release @FRAME-3 @FRAME-6 @NOISE-18
  Scenario: The handshake completes though every byte arrives apart
    Given the implementation is the <role> and Node <release> its peer
    When they connect over a wire that delivers 1 byte at a time
    Then both complete the handshake
    And both have the same handshake hash of 64 bytes
    And the stream carries messages both ways
