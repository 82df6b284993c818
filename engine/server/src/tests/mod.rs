//! The server on a real port, with the store in memory; the bus, the registry and the only step are
//! small fakes. That a real NATS server does what the fake one does is for the tests of the bus.

mod access;
mod admission;
mod decisions;
mod definitions;
mod events;
mod evidence;
mod fakes;
mod forge;
mod forged;
mod gates;
mod harness;
mod images;
mod keyed;
mod nats;
mod openapi;
mod outgoing;
mod pipelines;
mod requests;
mod schedules;
mod starts;
mod streams;
mod take_ups;
mod telemetry;
