//! Waits until written bytes have left the socket, so that a reset does not discard them.

use tokio::net::TcpStream;

/// Returns once the system has sent all written bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) async fn drained(stream: &TcpStream) -> std::io::Result<()> {
    use std::os::fd::AsFd;

    // With this, a socket is writable only once less than a byte is unsent; a new registration checks again.
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(1)?;
    let copy = stream.as_fd().try_clone_to_owned()?;
    TcpStream::from_std(copy.into())?.writable().await
}

/// These systems cannot be asked: a reset discards unsent bytes.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) async fn drained(_stream: &TcpStream) -> std::io::Result<()> {
    Ok(())
}
