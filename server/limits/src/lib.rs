//! How much each tenant and each client may ask for: rates and quotas, in bounded memory.
