def test_x(seaweedfs_service, ministack_service, client):
    import requests
    from servers import presigned

    for s in (seaweedfs_service, ministack_service):
        r = requests.put(s.at("/upload/", "a b/ü+.txt"), data=b"hello")
        assert r.status_code == 200, r.text
        print(r.json())
        u = presigned(requests.get(s.at("/download/", "a b/ü+.txt")))
        r = requests.get(u)
        print(r.status_code, r.headers, r.content)
        r = requests.post(s.at("/upload"), files=[("file", ("x.csv", b"1234" * 1000000))])
        print(r.text)
    print(client.get("/").text)
