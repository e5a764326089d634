//! `holdfast-gateway`: a gateway of this release.

fn main() {
    holdfast_gateway::process::run(holdfast_model::Supported::OWN);
}
