//! The kernel's switch in real namespaces.
#![allow(missing_docs)]

use homa_lab::{Backend, Lab, LabSpec};

#[test]
fn any_program_runs_inside_a_host() {
    let lab =
        Lab::up(&LabSpec { hosts: 3, backend: Backend::Switch, ..LabSpec::default() }).unwrap();
    std::fs::write(
        "/tmp/kt/s.py",
        r#"
import socket,sys,time
s=socket.socket(socket.AF_INET,socket.SOCK_STREAM); s.bind(("0.0.0.0",5000)); s.listen(5)
c,_=s.accept(); n=0; t=None
while True:
    d=c.recv(65536)
    if not d: break
    if t is None: t=time.time()
    n+=len(d)
print(n*8/(time.time()-t)/1e6, "Mbit/s")
"#,
    )
    .unwrap();
    std::fs::write(
        "/tmp/kt/c.py",
        r#"
import socket,sys,time
s=socket.create_connection(("10.66.0.2",5000)); t=time.time()
while time.time()-t<3: s.send(b"x"*65536)
s.close()
"#,
    )
    .unwrap();
    let mut srv = lab.command(1, "python3").unwrap().args(["/tmp/kt/s.py"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    lab.command(0, "python3").unwrap().args(["/tmp/kt/c.py"]).status().unwrap();
    srv.wait().unwrap();
    for p in lab.counters().unwrap() {
        println!("{:?}", p.levels[0]);
    }
}
