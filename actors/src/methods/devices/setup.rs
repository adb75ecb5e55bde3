//! `device.pair.setupCode`: where a device finds this gateway, and a token to pair itself with, in one text that a
//! picture can hold.

use super::super::Call;
use crate::connection::ConnectionMsg;
use crate::devices::{DevicesMsg, Setup};
use crate::origin::is_private;
use crate::settings::{AuthSecret, Bind, Settings, TailscaleMode};
use crate::tls::Fingerprint;
use crate::tree::Ctx;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::devices::{SetupCode, SetupCodeParams, SetupProfile};
use qrcode::{Color, EcLevel, QrCode};
use reqwest::Url;
use serde_json::json;
use std::net::{IpAddr, UdpSocket};

/// Characters of a picture as a data URL; a larger one is left out.
const MAX_PICTURE: usize = 16_384;
/// Dots of the picture for a dot of the code.
const SCALE: usize = 6;
/// Dots of the code that are left white around it, as its standard wants.
const MARGIN: usize = 4;

const LOOPBACK_ONLY: &str = "Gateway is only bound to loopback. Set gateway.bind=lan, enable tailscale serve, or \
                             configure plugins.entries.device-pair.config.publicUrl.";
const NOT_SECURE: &str = "Tailscale and public mobile pairing require a secure gateway URL (wss://): use a private \
                          LAN address, or set gateway.remote.url or plugins.entries.device-pair.config.publicUrl to \
                          a wss:// URL. ws:// is only valid for localhost, private LAN addresses and .local hosts.";
const NO_SECRET: &str =
    "Pairing setup requires gateway.auth.mode \"token\" or \"password\"; current mode is \"none\".";
const NO_LINKS: &str = "Join URLs are not served by this gateway; use the setup code.";

/// Where devices look for the gateway, and who says so.
#[derive(Debug, PartialEq)]
struct Place {
    url: String,
    source: &'static str,
    /// Whether it is the gateway's own port, whose certificate nobody vouches for.
    own: bool,
}

/// How the gateway is reached, as it is now.
struct Ways<'a> {
    /// The machine's address on its network.
    lan: &'a dyn Fn() -> Option<IpAddr>,
    /// The address that Tailscale has given it.
    tailnet: Option<IpAddr>,
    /// Where Tailscale brings clients from.
    published: Option<String>,
}

pub(in crate::methods) fn code(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SetupCodeParams>() else { return };
    let estate = call.estate();
    let secret = estate.auth();
    if *secret == AuthSecret::None {
        return call.responder.refuse(Refusal::invalid_request(NO_SECRET));
    }
    if params.join_url.is_some() {
        return call.responder.refuse(Refusal::invalid_request(NO_LINKS));
    }
    let doors = estate.reach.doors.get().map_or(&[][..], |doors| &doors.front);
    let tailnet = doors.iter().map(|address| address.ip()).find(|ip| !ip.is_loopback());
    let ways = Ways { lan: &lan_address, tailnet, published: estate.reach.published() };
    let place = match place(&params, &estate.config.load().settings, &ways) {
        Ok(place) => place,
        Err(why) => return call.responder.refuse(Refusal::invalid_request(why)),
    };
    let asked = params.bootstrap_profile.unwrap_or(SetupProfile::Limited);
    let downgraded = asked == SetupProfile::Full && !is_confidential(&place.url);
    let access = if downgraded { SetupProfile::Limited } else { asked };
    let pin = estate.reach.certificate.borrow().filter(|_| place.own).map(|served| served.fingerprint);
    let (devices, responder) = (call.wiring.devices.clone(), call.responder);
    ctx.detached(async move {
        let Some(setup) = devices.ask(|reply| DevicesMsg::Invite(access, reply)).await else {
            return responder.refuse(Refusal::not_stored());
        };
        let setup_code = encoded(&place.url, &setup, pin);
        let picture = if params.include_qr == Some(false) { None } else { picture(&setup_code) };
        responder.ok(&SetupCode {
            setup_id: setup.setup_id,
            expires_at_ms: setup.expires_at,
            setup_code,
            gateway_url: place.url,
            auth: secret.mode().into(),
            url_source: place.source.into(),
            access,
            qr_data_url: picture,
            access_downgraded: downgraded.then_some(true),
        });
    });
}

/// What devices are told, as they read it.
fn encoded(url: &str, setup: &Setup, pin: Option<Fingerprint>) -> String {
    let mut told = json!({ "url": url, "bootstrapToken": setup.token, "expiresAtMs": setup.expires_at });
    if let Some(pin) = pin {
        told["tlsFingerprint"] = json!(pin.to_string());
    }
    BASE64_URL_SAFE_NO_PAD.encode(told.to_string())
}

fn place(params: &SetupCodeParams, settings: &Settings, ways: &Ways<'_>) -> Result<Place, String> {
    let (gateway, configured) = (&settings.gateway, &settings.plugins.entries.device_pair.config.public_url);
    let remote = gateway.remote.url.as_deref().filter(|url| !url.trim().is_empty());
    let public = configured.as_deref().filter(|url| !url.trim().is_empty());
    let prefers_remote = params.prefer_remote_url == Some(true);
    let said = [
        (params.public_url.as_deref(), "request.publicUrl"),
        (remote.filter(|_| prefers_remote), "gateway.remote.url"),
        (public, "plugins.entries.device-pair.config.publicUrl"),
        (remote, "gateway.remote.url"),
    ];
    if let Some((url, source)) = said.into_iter().find_map(|(url, source)| Some((url?, source))) {
        let url = normalized(url).ok_or_else(|| format!("{source} is invalid."))?;
        return if is_fit(&url) { Ok(Place { url, source, own: false }) } else { Err(NOT_SECURE.to_owned()) };
    }
    if let (Some(address), Some(source)) = (&ways.published, by_tailscale(gateway.tailscale.mode)) {
        let url = normalized(address).ok_or("Gateway URL unavailable.")?;
        return Ok(Place { url, source, own: false });
    }
    let (host, source) = match gateway.bind {
        Bind::Loopback | Bind::Auto => return Err(LOOPBACK_ONLY.to_owned()),
        Bind::Custom => (gateway.custom_bind_host.clone(), "gateway.bind=custom"),
        Bind::Lan => ((ways.lan)().map(|ip| ip.to_string()), "gateway.bind=lan"),
        Bind::Tailnet => (ways.tailnet.map(|ip| ip.to_string()), "gateway.bind=tailnet"),
    };
    let host = host.filter(|_| gateway.port != 0).ok_or("Gateway URL unavailable.")?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let scheme = if gateway.tls.enabled { "wss" } else { "ws" };
    let url = format!("{scheme}://{host}:{}", gateway.port);
    if is_fit(&url) { Ok(Place { url, source, own: true }) } else { Err(NOT_SECURE.to_owned()) }
}

/// How it is told that Tailscale brings clients.
fn by_tailscale(mode: TailscaleMode) -> Option<&'static str> {
    match mode {
        TailscaleMode::Off => None,
        TailscaleMode::Serve => Some("gateway.tailscale.mode=serve"),
        TailscaleMode::Funnel => Some("gateway.tailscale.mode=funnel"),
    }
}

/// An address as devices want it: `ws` or `wss`, without a user. A bare host is one, too.
fn normalized(text: &str) -> Option<String> {
    let text = text.trim();
    let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("ws://{text}")) };
    let url = url.ok().filter(|url| url.username().is_empty() && url.password().is_none())?;
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return None,
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path().trim_end_matches('/');
    Some(format!("{scheme}://{}{port}{path}", url.host_str()?))
}

fn host(url: &str) -> String {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    host.trim_matches(['[', ']']).trim_end_matches('.').to_owned()
}

/// Whether a device may be sent there: what is not encrypted stays in the house.
fn is_fit(url: &str) -> bool {
    let host = host(url);
    // Tailscale's addresses count as private elsewhere, but are not this network.
    let shared = host.parse().is_ok_and(|ip| matches!(ip, IpAddr::V4(v4) if is_shared(v4.octets())));
    url.starts_with("wss://") || is_private(&host) && !shared
}

fn is_shared(octets: [u8; 4]) -> bool {
    octets[0] == 100 && octets[1] & 0xc0 == 64
}

/// Whether nobody on the way can read along.
fn is_confidential(url: &str) -> bool {
    let host = host(url);
    let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    url.starts_with("wss://") || here
}

/// This machine's address on the network it reaches others through. Nothing is sent: the address is one of those
/// reserved for documentation.
fn lan_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket
        .local_addr()
        .ok()
        .map(|address| address.ip())
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// A picture of a text that cameras read, as a data URL.
pub(in crate::methods) fn picture(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (size, dots) = (code.width(), code.to_colors());
    let width = (size + 2 * MARGIN) * SCALE;
    let is_dark = |x: usize, y: usize| {
        let at = |pixel: usize| (pixel / SCALE).checked_sub(MARGIN).filter(|dot| *dot < size);
        at(x).zip(at(y)).is_some_and(|(x, y)| dots[y * size + x] == Color::Dark)
    };
    let row = |y: usize| {
        (0..width.div_ceil(8))
            .map(move |byte| (0..8).fold(0_u8, |bits, bit| bits << 1 | u8::from(!is_dark(byte * 8 + bit, y))))
    };
    let pixels: Vec<u8> = (0..width).flat_map(row).collect();
    let mut file = Vec::new();
    let side = u32::try_from(width).ok()?;
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    let url = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&file));
    Some(url).filter(|url| url.len() <= MAX_PICTURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn settings(document: Value) -> Settings {
        serde_json::from_value(document).unwrap()
    }

    fn found(params: Value, document: Value) -> Result<(String, &'static str), String> {
        let params: SetupCodeParams = serde_json::from_value(params).unwrap();
        let lan = || Some([192, 168, 1, 5].into());
        let published = Some("https://home.tail1.ts.net".to_owned());
        let ways = Ways { lan: &lan, tailnet: Some([100, 64, 0, 5].into()), published };
        place(&params, &settings(document), &ways).map(|place| (place.url, place.source))
    }

    fn at(url: &str, source: &'static str) -> Result<(String, &'static str), String> {
        Ok((url.to_owned(), source))
    }

    #[test]
    fn devices_are_told_the_first_place_that_somebody_named() {
        assert_eq!(found(json!({}), json!({})), Err(LOOPBACK_ONLY.to_owned()));
        let lan = json!({ "gateway": { "bind": "lan", "port": 7 } });
        assert_eq!(found(json!({}), lan.clone()), at("ws://192.168.1.5:7", "gateway.bind=lan"));
        let asked = json!({ "publicUrl": "http://127.0.0.1:18854" });
        assert_eq!(found(asked, lan), at("ws://127.0.0.1:18854", "request.publicUrl"));
        let public = "plugins.entries.device-pair.config.publicUrl";
        let both = json!({
            "gateway": { "remote": { "url": "wss://r.example/gw/" } },
            "plugins": { "entries": { "device-pair": { "config": { "publicUrl": "https://p.example" } } } },
        });
        assert_eq!(found(json!({}), both.clone()), at("wss://p.example", public));
        let remote = at("wss://r.example/gw", "gateway.remote.url");
        assert_eq!(found(json!({ "preferRemoteUrl": true }), both), remote);
    }

    /// accepts: J8, J9
    #[test]
    fn devices_are_sent_where_tls_is_spoken_and_where_tailscale_brings_them_from() {
        let with = |gateway: Value| found(json!({}), json!({ "gateway": gateway }));
        let tls = |bind: &str| with(json!({ "bind": bind, "port": 7, "tls": { "enabled": true } }));
        assert_eq!(tls("lan"), at("wss://192.168.1.5:7", "gateway.bind=lan"));
        assert_eq!(tls("tailnet"), at("wss://100.64.0.5:7", "gateway.bind=tailnet"));
        assert_eq!(with(json!({ "bind": "tailnet", "port": 7 })), Err(NOT_SECURE.to_owned()));
        let serve = with(json!({ "tailscale": { "mode": "serve" } }));
        assert_eq!(serve, at("wss://home.tail1.ts.net", "gateway.tailscale.mode=serve"));
    }

    #[test]
    fn a_place_that_others_could_listen_at_is_refused() {
        let asked = |url: &str| found(json!({ "publicUrl": url }), json!({}));
        for url in ["ws://example.com", "http://8.8.8.8:1", "ws://100.64.1.2:1", "example.com"] {
            assert_eq!(asked(url), Err(NOT_SECURE.to_owned()), "{url}");
        }
        for url in ["ws://host.local", "ws://10.0.2.2:5", "ws://[fd00::1]:5", "192.168.0.9:18789"] {
            assert!(asked(url).is_ok(), "{url}");
        }
        for url in ["ftp://h", "ws://user:secret@h.local", "ws://", "://"] {
            assert_eq!(asked(url), Err("request.publicUrl is invalid.".to_owned()), "{url}");
        }
    }

    #[test]
    fn only_what_is_encrypted_or_stays_here_carries_full_access() {
        assert!(is_confidential("wss://p.example") && is_confidential("ws://127.0.0.1:1"));
        assert!(is_confidential("ws://localhost:1") && !is_confidential("ws://192.168.1.5:1"));
    }

    #[test]
    fn the_picture_is_a_png_of_the_code() {
        let text = "x".repeat(180);
        let url = picture(&text).unwrap();
        let file = BASE64_STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (info.height, info.width));
        // White around, then the corner of a finder.
        let (line, corner) = (info.line_size, MARGIN * SCALE);
        let dark = |x: usize, y: usize| pixels[y * line + x / 8] >> (7 - x % 8) & 1 == 0;
        assert!(!dark(0, 0) && !dark(corner - 1, corner - 1));
        assert!(dark(corner, corner) && !dark(corner + SCALE, corner + SCALE));
        assert_eq!(picture(&"x".repeat(9_000)), None, "no code holds so much");
    }
}
