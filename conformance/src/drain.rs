//! Waits until what was written to a socket has left, so that a reset does not take it back.

use tokio::net::TcpStream;

/// Returns once the system has sent all bytes that were written.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) async fn drained(stream: &TcpStream) -> std::io::Result<()> {
    use std::os::fd::AsFd;

    // With this, a socket counts as writable once less than a byte is unsent; a fresh registration asks anew.
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(1)?;
    let copy = stream.as_fd().try_clone_to_owned()?;
    TcpStream::from_std(copy.into())?.writable().await
}

/// There is no way to ask here: what was not sent yet is lost by a reset.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) async fn drained(_stream: &TcpStream) -> std::io::Result<()> {
    Ok(())
}
