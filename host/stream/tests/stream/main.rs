//! The engine through its public interface: packets in, chunks and gaps out.

mod facts;
mod fragments;
mod lifecycle;
mod limits;
mod links;
mod model;
mod reassembly;
mod robustness;
mod script;
mod tunnels;
mod wire;
