// Searches, pages, reads and downloads with fhir-kit-client; prints what it found as JSON.
// node walk.js BASE PATIENT-TOKEN
import { Client } from 'fhir-kit-client';

const [baseUrl, patient] = process.argv.slice(2);
const client = new Client({ baseUrl });
const capabilities = await client.capabilityStatement();

const found = [];
let bundle = await client.search({
  resourceType: 'DocumentReference',
  searchParams: { 'patient.identifier': patient, status: 'current', _count: 2 },
  options: { postSearch: process.argv[4] === 'post' },
});
const total = bundle.total;
while (bundle) {
  found.push(...(bundle.entry ?? []).map((each) => each.resource));
  bundle = await client.nextPage({ bundle });
}

const first = await client.read({ resourceType: 'DocumentReference', id: found[0].id });
const subject = await client.request(found[0].subject.reference);
const binary = await client.read({ resourceType: 'Binary', id: found[0].id });
const raw = await fetch(first.content[0].attachment.url);

let refused = null;
try {
  await client.search({ resourceType: 'DocumentReference', searchParams: { status: 'current' } });
} catch (error) {
  refused = error.response.data.issue[0].code;
}

console.log(
  JSON.stringify({
    fhirVersion: capabilities.fhirVersion,
    total,
    ids: found.map((each) => each.id),
    read: first.id,
    patient: subject.identifier[0].value,
    wrapped: Buffer.from(binary.data, 'base64').toString(),
    raw: await raw.text(),
    refused,
  }),
);
