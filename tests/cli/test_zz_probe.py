import time
from tests.cli.conftest import Cli, Loader
def test_p(cli: Cli) -> None:
    f = cli.file("a.csv")
    cases = [
     ("cp", f, cli.url("x/"), "--region", "bad region"),
     ("cp", f, cli.url("x/"), "--ca-bundle", "/nope"),
     ("cp", f, cli.url("x/"), "--endpoint-url", "http://127.0.0.1:99999"),
     ("cp", f, cli.url("x/"), "--endpoint-url", "http://127.0.0.1:1", ),
     ("cp", f, cli.url("x/"), "--max-concurrency", "0"),
     ("cp", f, cli.url("x/"), "--part-size", "1"),
     ("cp", f, cli.url("x/"), "--external-id", "a"),
     ("cp", f, cli.url("x/"), "--role-arn", "nonsense"),
     ("cp", f, cli.url("x/"), "--role-arn", ""),
     ("cp", f, "s3://B"),
     ("cp", f, "s3://no-such-bucket-1/x"),
     ("cp", "s3://no-such-bucket-1/x", "y"),
     ("cp", cli.url("nope"), "y"),
     ("cp", cli.url("nope/"), "y/"),
     ("cp", "a", "b"),
     ("cp", f),
     ("ls", cli.url("")),
     ("ls", "s3://no-such-bucket-1/x"),
     ("ls", "x"),
     ("rm", cli.url("x/")),
     ("rm", cli.url("x")),
     ("credentials",),
     ("credentials","show"),
     ("credentials","show","--source","ec2"),
     ("credential","show"),
     ("zzz",),
     (),
     ("cp","--prt-size","1"),
     ("cp", f, cli.url("x/"), "--session-tag", "x"),
     ("cp", f, cli.url("x/"), "--session-policy", f),
     ("cp", f, cli.url("x/"), "--session-duration", "12h"),
     ("cp", f, cli.url("x/"), "--session-duration", "5"),
     ("cp", f, cli.url("x/"), "--session-duration", "x"),
     ("cp", f, cli.url("x/"), "--part-size", "x"),
     ("cp", f, cli.url("x/"), "-vvv"),
     ("cp", f, cli.url("x/"), "--json"),
    ]
    for c in cases:
        t=time.time()
        try: r = cli.run(*c)
        except AssertionError as e:
            print('#####TIMEOUT',c,e); continue
        print("#####", c, r.code, f"{time.time()-t:.2f}")
        print(r.out[-1500:]); print("--"); print(r.err[-2500:])
def test_l(loader: Loader) -> None:
    f = loader.cli.file("a.csv", b"1,1.5,x\n2,2.5,y\n")
    for a in [(f,), (f,"--json"), ("nope",), (loader.cli.file("bad.csv", b"1,1.5,x\n2,1.2.3,y\n"),), (loader.cli.file("bad.csv", b"1,1.5,x\n2,1.2.3,y\n"),"--show-values")]:
        t=time.time()
        r = loader.load(*a)
        print("#####", a, r.code, f"{time.time()-t:.2f}")
        print(r.out[-1500:]); print("--"); print(r.err[-2500:])
