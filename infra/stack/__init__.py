"""The local stack: an embedded Apache Kafka, an embedded cache, and the processes that use them."""
