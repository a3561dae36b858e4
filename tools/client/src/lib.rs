//! The owner's client of a broker: admin calls and the KBS handshake.
