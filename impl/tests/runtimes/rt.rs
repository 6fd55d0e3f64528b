//! The tests' interface to a runtime: tasks and sockets. Time is not part of it.

use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};

use futures::channel::oneshot;
use futures::future::{AbortHandle, abortable};
use hypercore_protocol::runtime::{FuturesIo, Io, Tokio};
use hypercore_protocol::{Protocol, ProtocolBuilder};

use crate::node::soon;

const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) trait Runtime: 'static {
    type Socket: Send + 'static;
    type Listener;
    type Io: Io<Timer: Send> + Send + 'static;

    fn block_on(test: impl Future<Output = ()>);
    fn detach(task: impl Future<Output = ()> + Send + 'static);
    async fn listen() -> (Self::Listener, u16);
    async fn accept(listener: &Self::Listener) -> Self::Socket;
    async fn dial(port: u16) -> Self::Socket;
    fn io(socket: Self::Socket) -> Self::Io;
    fn connect(builder: ProtocolBuilder, socket: Self::Socket) -> Protocol<Self::Io>;

    async fn sockets() -> (Self::Socket, Self::Socket) {
        let (listener, port) = Self::listen().await;
        let dialled = Self::dial(port).await;
        (dialled, Self::accept(&listener).await)
    }

    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (task, abort) = abortable(task);
        let (sender, output) = oneshot::channel();
        Self::detach(async move {
            if let Ok(output) = task.await {
                // The waiter may be gone.
                let _ = sender.send(output);
            }
        });
        Task { abort, output }
    }
}

/// A task that ends when it is dropped.
pub(crate) struct Task<T> {
    abort: AbortHandle,
    output: oneshot::Receiver<T>,
}

impl<T> Task<T> {
    pub(crate) async fn join(mut self) -> T {
        soon(&mut self.output).await.expect("the task panicked")
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

pub(crate) struct OnTokio;

impl Runtime for OnTokio {
    type Socket = tokio::net::TcpStream;
    type Listener = tokio::net::TcpListener;
    type Io = Tokio<tokio::net::TcpStream>;

    fn block_on(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(test);
    }

    fn detach(task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    async fn listen() -> (Self::Listener, u16) {
        let listener = Self::Listener::bind(LOCALHOST).await.expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    async fn accept(listener: &Self::Listener) -> Self::Socket {
        soon(listener.accept()).await.expect("a connection").0
    }

    async fn dial(port: u16) -> Self::Socket {
        let socket = Self::Socket::connect(("127.0.0.1", port)).await;
        socket.expect("a connection")
    }

    fn io(socket: Self::Socket) -> Self::Io {
        Tokio::new(socket)
    }

    fn connect(builder: ProtocolBuilder, socket: Self::Socket) -> Protocol<Self::Io> {
        builder.connect(socket)
    }
}

pub(crate) struct OnSmol;

impl Runtime for OnSmol {
    type Socket = smol::net::TcpStream;
    type Listener = smol::net::TcpListener;
    type Io = FuturesIo<smol::net::TcpStream>;

    fn block_on(test: impl Future<Output = ()>) {
        smol::block_on(test);
    }

    fn detach(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    async fn listen() -> (Self::Listener, u16) {
        let listener = Self::Listener::bind(LOCALHOST).await.expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    async fn accept(listener: &Self::Listener) -> Self::Socket {
        soon(listener.accept()).await.expect("a connection").0
    }

    async fn dial(port: u16) -> Self::Socket {
        let socket = Self::Socket::connect(("127.0.0.1", port)).await;
        socket.expect("a connection")
    }

    fn io(socket: Self::Socket) -> Self::Io {
        FuturesIo::new(socket)
    }

    fn connect(builder: ProtocolBuilder, socket: Self::Socket) -> Protocol<Self::Io> {
        builder.connect_futures(socket)
    }
}

pub(crate) struct OnAsyncStd;

impl Runtime for OnAsyncStd {
    type Socket = async_std::net::TcpStream;
    type Listener = async_std::net::TcpListener;
    type Io = FuturesIo<async_std::net::TcpStream>;

    fn block_on(test: impl Future<Output = ()>) {
        async_std::task::block_on(test);
    }

    fn detach(task: impl Future<Output = ()> + Send + 'static) {
        drop(async_std::task::spawn(task));
    }

    async fn listen() -> (Self::Listener, u16) {
        let listener = Self::Listener::bind(LOCALHOST).await.expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    async fn accept(listener: &Self::Listener) -> Self::Socket {
        soon(listener.accept()).await.expect("a connection").0
    }

    async fn dial(port: u16) -> Self::Socket {
        let socket = Self::Socket::connect(("127.0.0.1", port)).await;
        socket.expect("a connection")
    }

    fn io(socket: Self::Socket) -> Self::Io {
        FuturesIo::with_shutdown(socket, |socket| socket.shutdown(Shutdown::Write))
    }

    fn connect(builder: ProtocolBuilder, socket: Self::Socket) -> Protocol<Self::Io> {
        builder.connect_with(Self::io(socket))
    }
}
