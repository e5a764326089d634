//! `holdfast-node`: a storage node of this release.

fn main() -> anyhow::Result<()> {
    holdfast_node::process::run(holdfast_model::Supported::OWN)
}
