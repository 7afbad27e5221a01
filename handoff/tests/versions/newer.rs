//! A synthetic peer of a later version: recorded frames with what a later version might add.
//!
//! Holds  nothing that protocol 1 defines changes its meaning; everything else may appear anywhere.

use handoff::version::SPOKEN;
use serde_json::{Value, json};

use crate::golden::{Freight, Line, Side};

/// One side of a part as a later build would say it: a wider range of protocols, unknown fields in every
/// object, unknown values where a later version may add some, and unknown kinds of messages between all
/// others, the third of them with a descriptor.
pub(crate) fn dress(part: &[Line], side: Side, claims: (u16, u16)) -> Vec<Line> {
    let mut dressed = Vec::new();
    let mut seq = 0;
    for line in part {
        if line.side != side {
            dressed.push(line.clone());
            continue;
        }
        // The first word of a worker is its greeting, in every version.
        let is_greeting = side == Side::Worker && seq == 0;
        if !is_greeting {
            seq += 1;
            let freight = if seq == 3 {
                Freight::Sockets(1)
            } else {
                Freight::Nothing
            };
            dressed.push(unknown_kind(side, seq, freight));
        }
        seq += 1;
        dressed.push(enrich(line, seq, claims));
    }
    dressed
}

fn unknown_kind(side: Side, seq: u64, freight: Freight) -> Line {
    let fds = usize::from(freight != Freight::Nothing);
    let message = json!({"type": "teleport", "to": ["mars"], "reason": null});
    Line {
        side,
        freight,
        bytes: json!({"seq": seq, "fds": fds, "message": message}).to_string(),
    }
}

fn enrich(line: &Line, seq: u64, claims: (u16, u16)) -> Line {
    let mut frame: Value = serde_json::from_str(&line.bytes).expect("a frame");
    frame["seq"] = json!(seq);
    if let Some(range) = frame["message"].get_mut("protocol") {
        *range = match range {
            Value::Object(_) => json!({"min": claims.0, "max": claims.1}),
            // A supervisor chooses the highest in common.
            _ => json!(SPOKEN.max),
        };
    }
    if let Some(posture) = frame["message"]
        .get_mut("returning")
        .and_then(|returning| returning.get_mut("posture"))
    {
        *posture = json!("hovering");
    }
    add_fields(&mut frame);
    Line {
        side: line.side,
        freight: line.freight.clone(),
        bytes: frame.to_string(),
    }
}

fn add_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_fields);
            fields.insert("colour".to_owned(), json!({"of": ["the", 7, null, {}]}));
            fields.insert("a-first-field".to_owned(), json!(-1.5));
        }
        Value::Array(values) => values.iter_mut().for_each(add_fields),
        _ => {}
    }
}
