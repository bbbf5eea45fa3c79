"""Writes vectors.tsv: hashes of one password, made by the programs that people import them from.

Needs Django, libpass (the maintained passlib), argon2-cffi, bcrypt < 4.1 and firebase-scrypt from PyPI, Node.js, and
a Python with the module crypt, which calls glibc's crypt(3) (up to 3.12). Salts are random: hashes differ each time.

    python make.py > vectors.tsv
"""

import base64
import crypt
import hashlib
import struct
import subprocess

import django
import passlib
from django.conf import settings
from django.contrib.auth import hashers
from firebase_scrypt import firebasescrypt
from passlib import hash as libpass

PASSWORD = "correct horse bättery"
NODE = """
const c = require("crypto"), password = process.argv[1], salt = Buffer.from("nodesaltnodesalt");
const b64 = bytes => bytes.toString("base64").replace(/=+$/, "");
console.log("$scrypt$ln=11,r=8,p=1$" + b64(salt) + "$" + b64(c.scryptSync(password, salt, 64, {N: 2048, r: 8, p: 1})));
for (const [name, digest, length] of [["pbkdf2", "sha1", 20], ["pbkdf2-sha256", "sha256", 32],
                                      ["pbkdf2-sha512", "sha512", 64]])
  console.log(`$${name}$i=1100,l=${length}$${b64(salt)}$` + b64(c.pbkdf2Sync(password, salt, 1100, length, digest)));
"""
# The example that Firebase publishes with its own tool.
FIREBASE_KEY = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
FIREBASE_SEPARATOR = "Bw=="
FIREBASE_SALT = "42xEC+ixf3L2lw=="


def row(source, text):
    print(source, text, sep="\t")


def from_django():
    settings.configure()
    django.setup()
    weak = [
        (hashers.PBKDF2PasswordHasher, {"iterations": 1200}),
        (hashers.PBKDF2SHA1PasswordHasher, {"iterations": 1200}),
        (hashers.ScryptPasswordHasher, {"work_factor": 1024}),
        (hashers.BCryptPasswordHasher, {"rounds": 4}),
        (hashers.BCryptSHA256PasswordHasher, {"rounds": 4}),
        (hashers.Argon2PasswordHasher, {"time_cost": 1, "memory_cost": 64, "parallelism": 1}),
    ]
    for kind, parameters in weak:
        hasher = type(kind.__name__, (kind,), parameters)()
        row(f"Django {django.__version__} {kind.__name__}", hasher.encode(PASSWORD, hasher.salt()))


def from_libpass():
    weak = [
        ("pbkdf2_sha1", {"rounds": 1300}), ("pbkdf2_sha256", {"rounds": 1300}), ("pbkdf2_sha512", {"rounds": 1300}),
        ("scrypt", {"rounds": 10, "block_size": 8, "parallelism": 2}),
        ("scrypt", {"rounds": 10, "block_size": 8, "parallelism": 2, "ident": "$7$"}),
        ("sha256_crypt", {"rounds": 1000}), ("sha512_crypt", {"rounds": 1500}),
        ("sha256_crypt", {"rounds": 5000}), ("sha512_crypt", {"rounds": 5000}),
        ("bcrypt_sha256", {"rounds": 4}), ("bcrypt_sha256", {"rounds": 4, "version": 1}),
        ("bcrypt", {"rounds": 4, "ident": "2y"}), ("bcrypt", {"rounds": 4, "ident": "2a"}), ("bcrypt", {"rounds": 4}),
        ("argon2", {"type": "I", "rounds": 2, "memory_cost": 64, "parallelism": 1}),
        ("argon2", {"type": "ID", "rounds": 2, "memory_cost": 64, "parallelism": 2}),
        ("django_pbkdf2_sha256", {"rounds": 1400}),
    ]
    for name, parameters in weak:
        row(f"libpass {passlib.__version__} {name}", getattr(libpass, name).using(**parameters).hash(PASSWORD))


def from_firebase():
    for cost in (14, 10):
        derived = firebasescrypt.generate_derived_key(PASSWORD, FIREBASE_SALT, FIREBASE_SEPARATOR, 8, cost)
        encrypted = base64.b64encode(firebasescrypt.encrypt(base64.b64decode(FIREBASE_KEY), derived)).decode()
        row("firebase-scrypt 0.1.0", f"$fbscrypt$v=1,n={cost},r=8,p=1,ss={FIREBASE_SEPARATOR},sk={FIREBASE_KEY}"
            f"${FIREBASE_SALT}${encrypted}")


def from_node():
    made = subprocess.run(["node", "-e", NODE, PASSWORD], capture_output=True, text=True, check=True)
    for line in made.stdout.split():
        row("Node.js crypto", line)


def in_the_layout_of_identity():
    """Version 3 of ASP.NET Core Identity's PasswordHasher, by its documented layout and hashlib."""
    for number, name, iterations in ((0, "sha1", 1000), (1, "sha256", 10000), (2, "sha512", 1000)):
        salt = bytes(range(16))
        head = b"\x01" + struct.pack(">III", number, iterations, len(salt))
        derived = hashlib.pbkdf2_hmac(name, PASSWORD.encode(), salt, iterations, 32)
        row(f"ASP.NET Core Identity 3 {name}", base64.b64encode(head + salt + derived).decode())


def from_glibc():
    for salt in ("$6$saltstring", "$5$rounds=1234$saltstringsaltst", "$6$$", "$5$$", "$6$a+b=c@",
                 "$5$rounds=1100$a-b,c"):
        row("glibc crypt", crypt.crypt(PASSWORD, salt))


print("# Written by make.py: the source and its hash of", PASSWORD, sep="\t")
from_django()
from_libpass()
from_firebase()
from_node()
in_the_layout_of_identity()
from_glibc()
