from tests.router.test_pages import home
async def test_x(home):
    b=lambda t:"".join(f'--q\r\nContent-Disposition: form-data; name="{n}"\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n{v}\r\n' for n,v in t.items()).encode()+b"--q--\r\n"
    for form in ({"text":"Hei +2AA- der","email":"ny@example.no","key":"k+2AA-"},{"text":"Hei +2AA- der","email":"+2AA-"},{"text":"a","email":"b@example.no","website":"+2AA-","key":"+2AA-"},{"text":"a","email":"b@example.no","key":"+2AA-"}):
        for hdr in ("multipart/form-data; boundary=q","multipart/form-data; boundary=q; charset=utf-7"):
            a=await home.client.post("/",content=b(form),headers={"content-type":hdr})
            print(a.status_code,a.headers.get("location"), "\ufffd" in a.text or "?" in a.text)
            assert a.status_code<500
