//! `holdfast-operator`: an operator of this release.

fn main() {
    holdfast_operator::process::run(holdfast_model::Supported::OWN);
}
