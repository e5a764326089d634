//! `holdfast-worker`: a worker of this release.

fn main() {
    holdfast_worker::process::run(holdfast_model::Supported::OWN);
}
