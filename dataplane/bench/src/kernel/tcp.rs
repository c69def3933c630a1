//! TCP between the host and a network behind the remote VTEP, where the kernel terminates the tunnel.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use dataplane::host::Netns;

use super::frames::HOST;
use super::lab;

/// Behind the remote VTEP.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const PORT: u16 = 5001;
/// Slow start and the buffers' growth are over by then.
const WARM_UP: Duration = Duration::from_millis(500);
const CHUNK: usize = 128 * 1024;
/// Connecting, and the end of a stream.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bit/s of one connection from the host to the far end, and of one back.
///
/// # Errors
/// When no connection comes about, or nothing arrives.
pub(crate) fn measure(time: Duration) -> anyhow::Result<(f64, f64)> {
    let (host, far) = (lab::netns("host")?, lab::netns("far")?);
    Ok((stream(&host, &far, FAR, time)?, stream(&far, &host, HOST, time)?))
}

/// Sends from one namespace to an address of another, and counts there.
fn stream(from: &Netns, to: &Netns, address: Ipv4Addr, time: Duration) -> anyhow::Result<f64> {
    let listener = to.run(|| TcpListener::bind((address, PORT)))??;
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> anyhow::Result<()> {
            let mut stream = from.run(|| TcpStream::connect_timeout(&(address, PORT).into(), PATIENCE))??;
            stream.set_write_timeout(Some(PATIENCE))?;
            let chunk = vec![0x5a; CHUNK];
            // Until the receiver has seen enough.
            while stream.write_all(&chunk).is_ok() {}
            Ok(())
        });
        let received = receive(&listener, time);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        received
    })
}

fn receive(listener: &TcpListener, time: Duration) -> anyhow::Result<f64> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("nobody connects"),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; CHUNK];
    let mut count = |stream: &mut TcpStream, time: Duration| -> anyhow::Result<f64> {
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < time {
            bytes += stream.read(&mut buffer).context("nothing arrives")?;
        }
        #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
        Ok(bytes as f64 * 8.0 / start.elapsed().as_secs_f64())
    };
    count(&mut stream, WARM_UP)?;
    count(&mut stream, time)
}
