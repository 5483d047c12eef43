"""Pictures and results in object stores, by URLs of fsspec: `s3://`, `gs://`, `az://`, `https://`.

`urls` says what is a URL, `store` reads and writes objects, `pictures` fetches inputs, `results`
uploads and fetches runs, `views` looks up many objects with few requests. Stages stay on local
disks.
"""
