//! What the plan promises, shown on whole resources.

mod contradictions;
mod fields;
mod golden;
mod network;
mod security;
mod stability;
mod support;
mod typed;
