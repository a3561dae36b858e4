//! The KBS handshake over HTTP, as an attester makes it. The steps are `core/protocol`'s; this only carries them.
