use hypercore_protocol::{Event, Key, Message, ProtocolBuilder, schema::Request};
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = tokio::net::TcpStream::connect(std::fs::read_to_string("address")?).await?;
    let mut protocol = ProtocolBuilder::new(true).connect(socket);
    protocol.open(Key::try_from(std::fs::read("key")?)?)?;
    while let Some(event) = protocol.next().await {
        let Event::Channel(channel) = event? else { continue };
        channel.request(Request { id: 1, block: Some(Default::default()), ..Default::default() }).await?;
        while let Some(message) = protocol.drive(channel.recv()).await {
            if let Message::Data(data) = message { return Ok(println!("{:?}", data.block)); }
        }
    }
    Err("the stream ended".into())
}
