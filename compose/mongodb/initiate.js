// Makes three servers one replica set, and two users: once. Run again, it finds everything there and changes nothing.
//
// It runs in mongosh beside mongodb1, on that server's own loopback address: as long as there is no user at all, MongoDB lets
// whoever comes from there create the first one (the "localhost exception"), and nobody else.

const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/${name}`, "utf8").trim();
const admin = db.getSiblingDB("admin");
const PATIENCE_MILLISECONDS = 120 * 1000;

// Whether a call ended with one of MongoDB's errors, by name; any other error is not ours to swallow.
function endsWith(names, call) {
  try {
    call();
    return false;
  } catch (error) {
    if (names.includes(error.codeName)) return true;
    throw error;
  }
}

// 1. The replica set. mongodb1 is preferred as primary, so that this script finds it where it runs.
const members = ["mongodb1", "mongodb2", "mongodb3"].map((name, number) => ({
  _id: number,
  host: `${name}:27017`,
  priority: number === 0 ? 2 : 1,
}));
// Unauthorized: there are users already, so there is a replica set already.
endsWith(["AlreadyInitialized", "Unauthorized"], () =>
  admin.runCommand({ replSetInitiate: { _id: "toimik", members } }).ok,
);

// 2. Wait for a primary here.
const deadline = Date.now() + PATIENCE_MILLISECONDS;
while (!admin.hello().isWritablePrimary) {
  if (Date.now() > deadline) {
    print("mongodb1 did not become primary. Look at: docker compose logs mongodb1 mongodb2 mongodb3");
    quit(1);
  }
  sleep(500);
}

// 3. The administrator, by the localhost exception. Where there is one, this is Unauthorized: log in.
endsWith(["Unauthorized"], () =>
  admin.createUser({ user: "admin", pwd: secret("mongodb-admin-password"), roles: ["root"] }),
);
admin.auth("admin", secret("mongodb-admin-password"));

// 4. Toimik may read and write its own database, and nothing else. A new password in the secrets takes effect here.
const toimik = {
  pwd: secret("mongodb-toimik-password"),
  roles: [{ role: "readWrite", db: "toimik" }],
};
if (admin.getUser("toimik")) admin.updateUser("toimik", toimik);
else admin.createUser({ user: "toimik", ...toimik });

print("The replica set stands, and its users are there.");
