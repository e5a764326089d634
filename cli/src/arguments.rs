//! What can be written behind `holdfast`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The gateway's port, here as everywhere.
pub const DEFAULT_PORT: u16 = 5000;
/// Where `holdfast dev` keeps its data.
pub const DEFAULT_DATA: &str = "./holdfast-data";

/// Holdfast: a self-healing store for files and objects.
#[derive(Parser)]
#[command(name = "holdfast", version = holdfast_model::release::VERSION)]
pub struct Arguments {
    /// The gateway.
    #[arg(
        long,
        env = "HOLDFAST_URL",
        default_value = "http://127.0.0.1:5000",
        global = true
    )]
    pub url: String,
    /// The access key. Without it, that of HOLDFAST_SECRETS_DIR or of the data
    /// directory of `holdfast dev` is used.
    #[arg(long, env = "HOLDFAST_KEY", hide_env_values = true, global = true)]
    pub key: Option<String>,
    /// A directory with ca.crt, whose authorities are believed beside those of
    /// the system where addresses begin with https://.
    #[arg(long, env = "HOLDFAST_TLS_DIR", global = true)]
    pub tls_dir: Option<PathBuf>,
    /// The data directory of `holdfast dev`.
    #[arg(long, default_value = DEFAULT_DATA, global = true)]
    pub data: PathBuf,
    /// Prints JSON, one value a line.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Runs a whole cluster in this process, for development.
    Dev(Dev),
    /// Uploads files.
    Put(Put),
    /// Downloads a file; run again, it goes on where it stopped.
    Get(Get),
    /// Lists files, newest first.
    Ls(Ls),
    /// Deletes files.
    Rm(Rm),
    /// Shows nodes, room, and how many objects are degraded, unavailable or lost,
    /// as they were last counted on the disks.
    Status,
    /// Prints the admin key.
    Key,
    /// Asks a health address; the exit code is the answer.
    Health {
        /// Such as http://127.0.0.1:9090/readyz.
        address: String,
    },
    /// Runs the cluster.
    #[command(subcommand)]
    Admin(Admin),
    /// Says what something comes to, before it is done.
    #[command(subcommand)]
    Explain(Explain),
}

#[derive(Subcommand)]
pub enum Explain {
    /// Prints the Kubernetes objects that a StorageCluster means.
    ///
    /// They are those of a cluster that is healthy and at rest, as YAML
    /// documents in the order of application. No cluster is asked: kinds of
    /// Prometheus are shown whether there are such or not. What contradicts
    /// itself is told instead, with what to change.
    Plan(ExplainPlan),
}

#[derive(Args)]
pub struct ExplainPlan {
    /// The resource as YAML or JSON; `-` is standard input. Documents of other
    /// kinds are passed over.
    pub file: PathBuf,
    /// The namespace of a resource that names none.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

#[derive(Args)]
pub struct Dev {
    /// The gateway's port.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    pub port: u16,
    /// How many storage nodes; 3 for new data, else as many as there are.
    #[arg(long)]
    pub nodes: Option<usize>,
    /// Shows metrics on this port; without it they are not shown.
    #[arg(long)]
    pub metrics_port: Option<u16>,
}

#[derive(Args)]
pub struct Put {
    /// The files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Destroys them after this time: 90s, 15m, 24h, 7d.
    #[arg(long)]
    pub expires: Option<String>,
    /// How often each may be downloaded; 0 is without limit. The gateway's default is 3.
    #[arg(long)]
    pub limit: Option<u32>,
    /// Downloading then needs this password.
    #[arg(long, env = "HOLDFAST_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
}

#[derive(Args)]
pub struct Get {
    /// The file's id.
    pub id: String,
    /// Where to; `-` is standard output. Without it, the name it was uploaded under.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// The file's password.
    #[arg(long, env = "HOLDFAST_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Replaces what has that name.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args)]
pub struct Ls {
    /// At most so many; 0 is all.
    #[arg(long, default_value_t = 100)]
    pub limit: u64,
}

#[derive(Args)]
pub struct Rm {
    /// The files' ids.
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// The token that the upload answered, where the key is not the owner's.
    #[arg(long)]
    pub delete_token: Option<String>,
}

#[derive(Subcommand)]
pub enum Admin {
    /// Lists the storage nodes.
    Nodes,
    /// Empties a node, so that it can be taken away.
    Drain {
        /// The node's id.
        node: String,
    },
    /// Has a node that was drained take data again.
    Activate {
        /// The node's id.
        node: String,
    },
    /// Gives a node up for lost: nothing on it counts any more.
    Lost {
        /// The node's id.
        node: String,
        /// Says that it is meant.
        #[arg(long)]
        yes: bool,
    },
    /// Lets the cluster write the formats of a release that all its nodes run.
    ///
    /// There is no way back: an older image is refused from then on. Upgrade
    /// nodes, then gateways, then workers first.
    Finalize {
        /// The release, as 0.2.0.
        release: String,
        /// Says that it is meant.
        #[arg(long)]
        yes: bool,
    },
    /// Writes all metadata into a file, while the cluster runs.
    Backup {
        /// Where to; it must not exist.
        file: PathBuf,
    },
    /// Puts a backup into the data directories of a cluster that is stopped.
    ///
    /// The files' bytes stay as they are; all metadata becomes that of the
    /// backup. Stop every node, gateway and worker first, and restore all nodes
    /// before any is started. Without --node-data the data directory of
    /// `holdfast dev` (--data) is meant.
    Restore(Restore),
    /// Lists, makes and revokes access keys.
    #[command(subcommand)]
    Keys(Keys),
}

#[derive(Args)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// A storage node's data directory; give it once for each node.
    #[arg(long)]
    pub node_data: Vec<PathBuf>,
    /// Goes on where the directories hold no majority of some group: the other
    /// nodes are then restored by themselves, from the same file.
    #[arg(long)]
    pub force: bool,
}

#[derive(Subcommand)]
pub enum Keys {
    /// Lists them, without their tokens.
    Ls,
    /// Makes one and prints its token, which is shown this once.
    Add {
        /// What it is called.
        name: String,
        /// It may do everything.
        #[arg(long)]
        admin: bool,
    },
    /// Revokes one: gateways refuse it within 10 s.
    Rm {
        /// Its id.
        id: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Arguments::command().debug_assert();
    }
}
