//! Sealed secrets: the text that carries a secret to a guest through hands that are not trusted.
