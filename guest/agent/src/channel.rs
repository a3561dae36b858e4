//! The channel at work: yamux, the streams that the host opens and those that the guest opens.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use coffer_sys_transport::Channel;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode, Stream};

/// More streams than an honest host opens.
const MAX_STREAMS: usize = 64;
/// How many bytes the other end may send that nobody has read yet: what each stream begins with, and no more.
const MAX_UNREAD: usize = MAX_STREAMS * yamux::DEFAULT_CREDIT as usize;

type Opened = oneshot::Sender<Stream>;

/// A handle on the channel.
#[derive(Clone)]
pub(crate) struct Link {
    orders: mpsc::UnboundedSender<Opened>,
    ended: watch::Receiver<bool>,
}

impl Link {
    /// Takes the transport over. The receiver gives the streams that the host opens.
    pub(crate) fn start(transport: Box<dyn Channel>) -> (Self, mpsc::Receiver<Stream>) {
        let mut config = Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(MAX_UNREAD));
        let connection = Connection::new(transport.compat(), config, Mode::Server);
        let (orders, wanted) = mpsc::unbounded_channel();
        let (inbound, streams) = mpsc::channel(1);
        let (ends, ended) = watch::channel(false);
        tokio::spawn(async move {
            let mut driver = Driver { connection, wanted, waiting: VecDeque::new(), inbound: Some(inbound) };
            poll_fn(|cx| driver.poll(cx)).await;
            // Nobody listens any more: then nobody waits.
            let _unheard = ends.send(true);
        });
        (Self { orders, ended }, streams)
    }

    /// Opens a stream to the host; `None` if the channel ended.
    pub(crate) async fn open(&self) -> Option<Stream> {
        let (opened, stream) = oneshot::channel();
        self.orders.send(opened).ok()?;
        stream.await.ok()
    }

    /// Waits for the channel's end.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // A driver that is gone is an end too.
        let _gone = ended.wait_for(|ended| *ended).await;
    }
}

struct Driver {
    connection: Connection<Compat<Box<dyn Channel>>>,
    wanted: mpsc::UnboundedReceiver<Opened>,
    waiting: VecDeque<Opened>,
    inbound: Option<mpsc::Sender<Stream>>,
}

impl Driver {
    /// Makes what progress there is; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(Some(order)) = self.wanted.poll_recv(cx) {
            self.waiting.push_back(order);
        }
        while let Some(order) = self.waiting.pop_front() {
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    // Who gave up waiting does not need it; dropping it closes it.
                    let _unwanted = order.send(stream);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    self.waiting.push_front(order);
                    break;
                }
            }
        }
        loop {
            match self.connection.poll_next_inbound(cx) {
                // The host opens one stream, for the run. Others are closed by being dropped.
                Poll::Ready(Some(Ok(stream))) => {
                    drop(self.inbound.take().map(|inbound| inbound.try_send(stream)));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
