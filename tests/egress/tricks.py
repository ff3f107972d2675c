"""Ways to ask for an address that may not be reached: `{port}` is a server on 127.0.0.1."""

# What a host may be written as. All of them mean this machine, its network, or a metadata service.
HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.127.127.127",
    "2130706433",  # decimal
    "0x7f000001",  # hexadecimal
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",  # octal
    "017700000001",
    "0x7f.1",
    "0",
    "0.0.0.0",
    "localhost",
    "LocalHost",
    "localhost.",
    "127.0.0.1.",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",  # IPv4 in IPv6
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",  # NAT64
    "[2002:7f00:1::]",  # 6to4
    "[fe80::1%25eth0]",
    "[fc00::1]",
    "[ff02::1]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # shared
    "169.254.169.254",  # metadata
    "169.254.169.254.",
    "2852039166",
    "0xA9FEA9FE",
    "[::ffff:a9fe:a9fe]",
    "[fd00:ec2::254]",
    "224.0.0.1",
    "255.255.255.255",
    "\uff11\uff12\uff17.0.0.1",  # full-width digits
    "127。0。0。1",  # ideographic full stops
    "①②⑦.⓪.⓪.①",
    "ⓛocalhost",
    "127.0.0.1%00.example.com",
    "%31%32%37.0.0.1",
]
# Where parsers disagree about what the host is.
URLS = [
    "{scheme}://public.example@127.0.0.1:{port}/",
    "{scheme}://127.0.0.1:{port}#@public.example/",
    "{scheme}://127.0.0.1:{port}\\@public.example/",
    "{scheme}://public.example:80@127.0.0.1:{port}/",
    "{scheme}://public.example%2f@127.0.0.1:{port}/",
    "{scheme}:///127.0.0.1:{port}/",
    "{scheme}:127.0.0.1:{port}/",
    "{scheme}://127.0.0.1:{port}:80/",
    "{scheme}://[127.0.0.1]:{port}/",
    "{scheme}://127.0.0.1\t:{port}/",
    "{scheme}://127.0.0.1\r\nHost: public.example:{port}/",
    "//127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "ftp://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "data:application/json,{{}}",
]


def tricks(port: int, scheme: str = "http") -> list[str]:
    """All of them as URLs."""
    hosts = [f"{scheme}://{host}:{port}/" for host in HOSTS]
    return hosts + [url.format(scheme=scheme, port=port) for url in URLS]
