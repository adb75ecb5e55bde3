//! Calls of a method: in a closed loop, where each answer lets the next call go, or in an open one, where calls are due
//! at a rate whatever the gateway makes of it.

use crate::latency::{Latencies, Report, Schedule};
use crate::measured::{Ws, frame};
use crate::target::{Setup, Target, Which};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use crabtree_protocol::client::encode_request;
use futures_util::stream::StreamExt;
use futures_util::{FutureExt, SinkExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

#[derive(Args, Clone)]
pub struct Rpc {
    /// The method
    #[arg(default_value = "health")]
    pub method: String,
    /// Its parameters, as JSON
    #[arg(long)]
    pub params: Option<String>,
    /// Connections that the calls go over
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Closed loop: calls that each connection has outstanding
    #[arg(long, default_value_t = 8)]
    pub outstanding: usize,
    /// Open loop: calls a second of all connections; latencies count from when a call was due
    #[arg(long)]
    pub rate: Option<f64>,
    /// Make so many sessions before, and ask for a page of so many, which each answer must have
    #[arg(long)]
    pub rows: Option<usize>,
}

/// A call, and how its answer is known to be right.
#[derive(Clone)]
struct Call {
    method: String,
    params: Option<String>,
    /// What each answer has.
    has: Option<String>,
    /// Whether the gateway may say that it is too busy.
    may_refuse: bool,
}

impl Call {
    fn request(&self, id: u64) -> Result<Message> {
        request(&id.to_string(), &self.method, self.params.as_deref())
    }

    /// Which call is answered by `text`, if one is, and whether it was carried out.
    fn answered(&self, text: &str) -> Result<Option<(u64, bool)>> {
        let Some(rest) = text.strip_prefix(r#"{"type":"res","id":""#) else { return Ok(None) };
        let (id, rest) = rest.split_once('"').context("an id without an end")?;
        let right =
            rest.starts_with(r#","ok":true"#) && self.has.as_ref().is_none_or(|has| rest.contains(has));
        let busy = self.may_refuse && rest.contains(r#""retryable":true"#);
        ensure!(right || busy, "{}: {}", self.method, &text[..text.floor_char_boundary(400)]);
        Ok(Some((id.parse()?, right)))
    }
}

/// A request, ready to send.
pub fn request(id: &str, method: &str, params: Option<&str>) -> Result<Message> {
    let request = encode_request(id, method, params.map(str::as_bytes));
    Ok(Message::Text(Utf8Bytes::try_from(request)?))
}

/// One call that must succeed; its payload.
pub async fn call(ws: &mut Ws, method: &str, params: &Value) -> Result<Value> {
    ws.send(request("one", method, Some(&params.to_string()))?).await?;
    loop {
        let text = frame(ws).await?;
        if text.starts_with(r#"{"type":"res","id":"one""#) {
            let mut answer: Value = serde_json::from_str(&text)?;
            ensure!(answer["ok"] == true, "{method}: {}", answer["error"]);
            return Ok(answer["payload"].take());
        }
    }
}

impl Rpc {
    pub fn of(method: &str, rate: Option<f64>, rows: Option<usize>) -> Self {
        Self { method: method.into(), params: None, connections: 4, outstanding: 8, rate, rows }
    }

    pub async fn measure(&self, which: &Which, seconds: u64) -> Result<Report> {
        let target = Target::of(which, Setup::default()).await?;
        let (mut params, mut has) = (self.params.clone(), None);
        if let Some(rows) = self.rows {
            let mut maker = target.client().await?;
            for row in 0..rows {
                call(&mut maker, "sessions.create", &json!({ "key": format!("load-{row}") })).await?;
            }
            params = Some(json!({ "limit": rows }).to_string());
            has = Some(format!(r#""count":{rows},"#));
        }
        let call = Call { method: self.method.clone(), params, has, may_refuse: false };
        let sockets = target.clients(self.connections).await?;
        ensure!(self.connections > 0 && self.outstanding > 0, "there is nobody to call");
        let (cpu, begun) = (target.cpu_us(), Instant::now());
        let latencies = match self.rate {
            None => closed(sockets, &call, self.outstanding, begun + Duration::from_secs(seconds)).await?,
            Some(rate) => open(sockets, &call, Schedule::new(rate, seconds)?).await?,
        };
        let took = begun.elapsed();
        let rows = self.rows.map_or_else(String::new, |rows| format!(" of {rows}"));
        let pace = if self.rate.is_some() { " open" } else { "" };
        let mut report = Report::new(format!("{}{rows}{pace}", self.method))
            .with("connections", self.connections)
            .rate(latencies.count(), took)
            .latencies("latency", &latencies);
        report = match self.rate {
            None => report.with("outstanding", self.outstanding),
            Some(rate) => report.with("rate", rate),
        };
        let each = target.cpu_us_each(cpu, latencies.count());
        Ok(report.with("serverCpuUsEach", each).with("rssMb", target.resident()))
    }
}

async fn closed(sockets: Vec<Ws>, call: &Call, outstanding: usize, ends: Instant) -> Result<Latencies> {
    let requests: Arc<[Message]> =
        (0..outstanding as u64).map(|slot| call.request(slot)).collect::<Result<_>>()?;
    let mut calling = JoinSet::new();
    for ws in sockets {
        calling.spawn(closed_on(ws, call.clone(), requests.clone(), ends));
    }
    together(calling).await
}

/// Each of the requests has one call outstanding until `ends`.
async fn closed_on(mut ws: Ws, call: Call, requests: Arc<[Message]>, ends: Instant) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut sent = vec![Instant::now(); requests.len()];
    let mut outstanding = requests.len();
    for request in requests.iter() {
        ws.feed(request.clone()).await?;
    }
    while outstanding > 0 {
        ws.flush().await?;
        let mut next = Some(frame(&mut ws).await?);
        while let Some(text) = next {
            if let Some((slot, _)) = call.answered(&text)? {
                let slot = slot as usize;
                let (sent, now) = (sent.get_mut(slot).context("an answer to nothing")?, Instant::now());
                latencies.record(now - *sent);
                *sent = now;
                if now < ends {
                    ws.feed(requests[slot].clone()).await?;
                } else {
                    outstanding -= 1;
                }
            }
            next = frame(&mut ws).now_or_never().transpose()?;
        }
    }
    Ok(latencies)
}

async fn open(sockets: Vec<Ws>, call: &Call, schedule: Schedule) -> Result<Latencies> {
    let ways = sockets.len();
    let mut calling = JoinSet::new();
    for (way, (mut ws, due)) in sockets.into_iter().zip(schedule.start(ways)).enumerate() {
        let call = call.clone();
        let calls = schedule.share(way, ways);
        calling.spawn(async move { Ok(open_on(&mut ws, &call, schedule, due, calls).await?.0) });
    }
    together(calling).await
}

/// Sends calls as they are due, and reads answers until there are `calls` of them; also how many were refused.
async fn open_on(
    ws: &mut Ws,
    call: &Call,
    schedule: Schedule,
    mut due: UnboundedReceiver<u64>,
    calls: u64,
) -> Result<(Latencies, u64)> {
    let (mut sink, mut stream) = ws.split();
    let asking = async {
        while let Some(id) = due.recv().await {
            sink.send(call.request(id)?).await?;
        }
        anyhow::Ok(())
    };
    let hearing = async {
        let (mut latencies, mut refused) = (Latencies::new(), 0);
        while latencies.count() < calls {
            match stream.next().await.context("the socket has ended")?? {
                Message::Text(text) => {
                    if let Some((id, done)) = call.answered(&text)? {
                        latencies.record(schedule.due(id).elapsed());
                        refused += u64::from(!done);
                    }
                }
                Message::Close(close) => bail!("closed: {close:?}"),
                _ => {}
            }
        }
        Ok((latencies, refused))
    };
    Ok(tokio::try_join!(asking, hearing)?.1)
}

/// `health` for a second, at a rate: how the gateway answers while something else is measured, and how often it was too
/// busy to.
pub async fn probe(ws: &mut Ws, rate: f64) -> Result<(Latencies, u64)> {
    let call = Call { method: "health".into(), params: None, has: None, may_refuse: true };
    let schedule = Schedule::new(rate, 1)?;
    let due = schedule.start(1).pop().context("one way")?;
    open_on(ws, &call, schedule, due, schedule.calls).await
}

async fn together(mut calling: JoinSet<Result<Latencies>>) -> Result<Latencies> {
    let mut all = Latencies::new();
    while let Some(some) = calling.join_next().await {
        all.add(&some??);
    }
    Ok(all)
}
