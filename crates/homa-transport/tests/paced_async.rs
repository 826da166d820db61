//! Deadlines microseconds ahead, as the pacer has them, in a runtime.

use std::time::Duration;

use homa_transport::{Config, EndpointBuilder};

/// Packets of 1,500 bytes every 12 µs: many deadlines pass between the end of a turn and the
/// attempt to sleep.
fn paced() -> EndpointBuilder {
    let config = Config::default().with(|config| {
        config.output.mtu_max = 1500;
        config.output.link_mbps = Some(1_000);
        config.recovery.resend_interval = Duration::from_secs(2);
        config.recovery.timeout = Duration::from_secs(20);
    });
    EndpointBuilder::new().config(config).spin(Duration::ZERO)
}

#[tokio::test]
async fn paced_messages_never_wait_for_a_retransmission() {
    let server = paced().bind("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let echo = server.clone();
    tokio::spawn(async move {
        while let Ok(mut request) = echo.accept().await {
            let body = request.take_body();
            let _ = request.reply(body).await;
        }
    });
    let client = paced().client().unwrap();
    for _ in 0..100 {
        let answer = client.call(address, vec![7_u8; 60_000]).await.unwrap();
        assert_eq!(answer.len(), 60_000);
    }
    // A pacer that slept too long is woken by nothing but the probe after two seconds of
    // silence.
    for endpoint in [&client, &server] {
        let stats = endpoint.stats().engine;
        let asked = stats.resends_all_sent + stats.resends_tail_sent + stats.resends_gap_sent;
        assert_eq!(asked, 0, "{stats:?}");
    }
}
