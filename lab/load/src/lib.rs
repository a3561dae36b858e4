//! Guests by the thousand: a load generator for brokers, and what breaks them.
