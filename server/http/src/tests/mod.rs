//! The broker as its clients see it: a real TLS listener on the loopback interface, real evidence, real refusals.

mod admin;
mod certificates;
mod collateral;
mod counters;
mod devices;
mod e2e;
mod hostile;
mod kept;
mod lab;
mod recorded;
mod refusals;
mod standards;
mod tenants;
mod terms;
mod wrapping;
