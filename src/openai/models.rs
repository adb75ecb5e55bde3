//! `GET /v1/models`: the agents.

use super::Wrong;
use super::target::{DEFAULT, PREFIX, ROOT};
use crate::routes::json;
use crabtree_actors::agents::Catalog;
use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

/// The list, or one of them: `rest` is what stands behind `/v1/models`.
pub fn answer(rest: &str, catalog: &Catalog) -> Response {
    let agents = catalog.agents.iter().map(|agent| format!("{PREFIX}{}", agent.id));
    let ids = [ROOT.to_owned(), DEFAULT.to_owned()].into_iter().chain(agents);
    let Some(wanted) = rest.strip_prefix('/') else {
        let all: Vec<Value> = ids.map(|id| model(&id)).collect();
        return json(StatusCode::OK, &json!({ "object": "list", "data": all }));
    };
    // Agents' ids are plain letters: only the slash of a whole id is ever written otherwise.
    let wanted = wanted.replace("%2F", "/").replace("%2f", "/");
    if !wanted.starts_with(PREFIX) && wanted != ROOT {
        return Wrong::request("Invalid model id.").into_response();
    }
    match ids.into_iter().find(|id| *id == wanted) {
        Some(id) => json(StatusCode::OK, &model(&id)),
        None => {
            let message = format!("Model '{wanted}' not found.");
            Wrong { status: StatusCode::NOT_FOUND, ..Wrong::request(message) }.into_response()
        }
    }
}

fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": "openclaw", "permission": [] })
}
