"""Clients of the transit calls as others wrote them: hvac, and pyarrow's Parquet encryption over hvac.

Usage: clients.py URL. The URL is of the server in tests/served, whose tokens are words.
"""

import base64
import os
import sys
import tempfile

import hvac
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

URL = sys.argv[1]


def b64(data):
    return base64.b64encode(data).decode()


def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return str(error)
    raise AssertionError(f"{call} was not refused with {kind}")


def hvac_calls():
    client = hvac.Client(url=URL, token="owner")
    assert client.is_authenticated()
    assert client.sys.read_health_status(method="GET")["sealed"] is False
    assert client.sys.read_health_status().status_code == 200
    transit = client.secrets.transit
    refused(hvac.exceptions.InvalidPath, transit.list_keys)

    transit.create_key(name="wrapped-only")
    client.write_data("transit/keys/lake", data={"insecure_plaintext_over_tls": True})
    assert transit.list_keys()["data"]["keys"] == ["lake", "wrapped-only"]
    read = transit.read_key(name="lake")["data"]
    assert read["latest_version"] == 1 and read["exportable"] is False and read["type"] == "aes256-gcm96"
    refused(hvac.exceptions.InvalidPath, transit.read_key, name="none")

    plain = os.urandom(32)
    first = transit.encrypt_data(name="lake", plaintext=b64(plain))["data"]["ciphertext"]
    assert first.startswith("vault:v1:")
    assert transit.decrypt_data(name="lake", ciphertext=first)["data"]["plaintext"] == b64(plain)
    bound = transit.encrypt_data(name="lake", plaintext=b64(plain), associated_data=b64(b"file 7"))
    bound = bound["data"]["ciphertext"]
    opened = transit.decrypt_data(name="lake", ciphertext=bound, associated_data=b64(b"file 7"))
    assert opened["data"]["plaintext"] == b64(plain)
    refused(
        hvac.exceptions.InvalidRequest,
        transit.decrypt_data, name="lake", ciphertext=bound, associated_data=b64(b"file 8"),
    )

    assert transit.rotate_key(name="lake")["data"]["latest_version"] == 2
    second = transit.rewrap_data(name="lake", ciphertext=first)["data"]["ciphertext"]
    assert second.startswith("vault:v2:")
    transit.update_key_configuration(name="lake", min_decryption_version=2)
    assert "too old" in refused(
        hvac.exceptions.InvalidRequest, transit.decrypt_data, name="lake", ciphertext=first
    )
    made = transit.generate_data_key(name="lake", key_type="plaintext")["data"]
    opened = transit.decrypt_data(name="lake", ciphertext=made["ciphertext"])["data"]
    assert opened["plaintext"] == made["plaintext"]
    assert "plaintext" not in transit.generate_data_key(name="lake", key_type="wrapped")["data"]

    batch = [{"plaintext": b64(bytes([n]) * 16)} for n in range(50)]
    results = transit.encrypt_data(name="lake", batch_input=batch)["data"]["batch_results"]
    results = transit.decrypt_data(
        name="lake", batch_input=[{"ciphertext": one["ciphertext"]} for one in results]
    )["data"]["batch_results"]
    assert [one["plaintext"] for one in results] == [one["plaintext"] for one in batch]

    wrapped = transit.generate_data_key(name="wrapped-only", key_type="wrapped")["data"]["ciphertext"]
    assert "insecure_plaintext_over_tls" in refused(
        hvac.exceptions.Forbidden, transit.decrypt_data, name="wrapped-only", ciphertext=wrapped
    )
    refused(hvac.exceptions.InvalidRequest, transit.create_key, name="x", exportable=True)
    refused(hvac.exceptions.InvalidPath, transit.export_key, name="lake", key_type="encryption-key")
    refused(hvac.exceptions.InvalidRequest, client.auth.token.renew_self)
    refused(hvac.exceptions.InvalidRequest, transit.delete_key, name="wrapped-only")
    transit.update_key_configuration(name="wrapped-only", deletion_allowed=True)
    assert transit.delete_key(name="wrapped-only").status_code == 204
    reader = hvac.Client(url=URL, token="reader").secrets.transit
    assert reader.decrypt_data(name="lake", ciphertext=second)["data"]["plaintext"] == b64(plain)
    refused(hvac.exceptions.Forbidden, reader.encrypt_data, name="lake", plaintext=b64(plain))
    print("hvac", hvac.__version__ if hasattr(hvac, "__version__") else "")


class TransitClient(pe.KmsClient):
    """A KMS client for Parquet in the manner of the examples of pyarrow and parquet-mr."""

    def __init__(self, config):
        super().__init__()
        self.transit = hvac.Client(url=config.kms_instance_url, token=config.key_access_token).secrets.transit

    def wrap_key(self, key_bytes, master_key_identifier):
        reply = self.transit.encrypt_data(name=master_key_identifier, plaintext=b64(key_bytes))
        return reply["data"]["ciphertext"]

    def unwrap_key(self, wrapped_key, master_key_identifier):
        reply = self.transit.decrypt_data(name=master_key_identifier, ciphertext=wrapped_key)
        return base64.b64decode(reply["data"]["plaintext"])


def parquet_encryption():
    owner = hvac.Client(url=URL, token="owner")
    for name in ("footer", "salaries"):
        owner.write_data(f"transit/keys/{name}", data={"insecure_plaintext_over_tls": True})
    table = pa.table({"who": ["a", "b", "c"], "salary": [1, 2, 3]})
    factory = pe.CryptoFactory(TransitClient)

    def connection(token):
        return pe.KmsConnectionConfig(kms_instance_url=URL, key_access_token=token)

    encryption = pe.EncryptionConfiguration(
        footer_key="footer", column_keys={"salaries": ["salary"]}, encryption_algorithm="AES_GCM_V1",
        data_key_length_bits=256,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "table.parquet")
        properties = factory.file_encryption_properties(connection("writer"), encryption)
        with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
            writer.write_table(table)
        with open(path, "rb") as file:
            assert file.read(4) == b"PARE"
        refused(OSError, pq.read_table, path)
        owner.secrets.transit.rotate_key(name="footer")
        properties = factory.file_decryption_properties(connection("reader"))
        assert pq.ParquetFile(path, decryption_properties=properties).read() == table
        # Who may wrap and not unwrap reads nothing.
        def read_as_writer():
            properties = factory.file_decryption_properties(connection("writer"))
            pq.ParquetFile(path, decryption_properties=properties).read()

        refused(Exception, read_as_writer)
    print("pyarrow", pa.__version__)


hvac_calls()
parquet_encryption()
print("all done")
