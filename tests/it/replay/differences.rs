//! What is not as recorded, and what is replayed elsewhere.

/// What is answered otherwise than recorded, and why. A line that is not needed any more is named by the test.
pub const DIFFERENCES: &[(&str, &str)] = &[
    (
        "http_ws_path /__openclaw__/worker silent",
        "the worker protocol is not spoken; its path is like any other",
    ),
    ("hello_controlui_nobuild close", BUILD),
    ("hello_controlui_nobuild connect", BUILD),
    ("post_missing_scope talk.config", METHOD),
    ("setup_profiles device.pair.setupCode", "no link hands a setup code out: it would have to be kept"),
];
const BUILD: &str = "no page comes with this gateway that another build could be stale against";
const METHOD: &str = "the method does not exist yet";

/// Recordings that are no exchange of frames on a direct connection; the tests beside this one show them.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("http_requests", "plain HTTP; `routes`, and `a_forwarded_request_is_refused` here"),
    ("keepalive", "108 s of pings and ticks; `liveness`"),
    (
        "restart_request",
        "a process that starts anew: `handover`; how a gateway that goes says so is in `first_breath`, and whom it \
         still lets in is in `durability`",
    ),
    ("startup_connect", "this gateway is ready at once; `startup` beside the actors holds its database back"),
];
