//! Founds a cluster, or finds that its volumes have one.

use std::collections::BTreeMap;

use holdfast_client::birth::{
    Beginning, Birth, FirstKey, Place, decide_birth, plan_birth, send_birth,
};
use holdfast_metadata::protocol;
use holdfast_model::ClusterState;
use holdfast_plan::names;
use holdfast_runtime::Address;

use crate::context::Context;
use crate::error::OperatorError;
use crate::nodes::Nodes;
use crate::observe::Observed;
use crate::secrets;

/// Founds the cluster of the nodes with these ordinals, all of which answer. The
/// sentence is why it was not.
///
/// # Errors
/// When the API server does not keep the first state.
pub async fn found(
    context: &Context,
    observed: &Observed,
    nodes: &Nodes,
    ordinals: &[u32],
) -> Result<Result<String, String>, OperatorError> {
    let found = ordinals
        .iter()
        .filter_map(|ordinal| {
            let status = observed.sight.nodes.get(ordinal)?;
            Some((nodes.address(*ordinal)?.clone(), status.clone()))
        })
        .unzip();
    let (members, statuses): (Vec<Address>, Vec<_>) = found;
    let kept = secrets::kept_founding(observed)
        .map(|bytes| minicbor::decode::<ClusterState>(&bytes))
        .transpose()
        .map_err(|error| OperatorError::Malformed(format!("the kept first state: {error}")))?;
    let env = nodes.env();
    let state = match decide_birth(&members, &statuses, kept) {
        Err(error) => return Ok(Err(error.to_string())),
        Ok(Birth::Adopt(cluster)) => return Ok(Ok(format!("cluster {cluster} is adopted"))),
        Ok(Birth::GoOn(state)) => *state,
        Ok(Birth::Begin) => {
            let Some(beginning) = beginning(observed) else {
                return Ok(Err("the Secret with the admin token is not there".into()));
            };
            let state = plan_birth(env, &statuses, &beginning);
            secrets::keep_founding(context, observed, &protocol::encode(&state)).await?;
            state
        }
    };
    Ok(match send_birth(env, &members, &state).await {
        Ok(()) => Ok(format!("cluster {} is founded", state.cluster)),
        Err(error) => Err(error.to_string()),
    })
}

fn beginning(observed: &Observed) -> Option<Beginning> {
    let token = Observed::text(observed.admin.as_ref(), names::ADMIN_TOKEN_KEY)?;
    let redundancy = &observed.resource.spec.redundancy;
    let mut places = BTreeMap::new();
    for (ordinal, status) in &observed.sight.nodes {
        let pod = observed.node_pod(*ordinal);
        let machine = pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        let place = machine.and_then(|machine| {
            let zone = observed.machines.get(&machine)?.zone.clone();
            Some(Place {
                zone,
                host: machine,
            })
        });
        places.extend(place.map(|place| (status.node, place)));
    }
    Some(Beginning {
        key: FirstKey::of(token.trim()),
        times: Default::default(),
        copies: u8::try_from(redundancy.copies).ok(),
        metadata_replicas: u8::try_from(redundancy.metadata_replicas).ok(),
        places,
    })
}
