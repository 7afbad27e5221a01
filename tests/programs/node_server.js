#!/usr/bin/env node
// An HTTP server that takes its listener from descriptor 3 and never says READY=1: as many Node programs are.
// Needs only a stock Node. MODE makes it one of the bad successors.
'use strict';

const VERSION = '0';
const MODE = 'good';
// Work per request, in milliseconds: so that requests are under way whenever it is told to end.
const WORK_MS = 5;
// One that turns bad is good for so long; one that turns slow takes so long for each answer.
const GOOD_MS = 3000;
const SLOW_MS = 80;

if (process.argv.includes('--version')) {
  console.log(`node-server ${VERSION}.0`);
  process.exit(0);
}

const http = require('node:http');

// The pattern of bench/src/payload.rs: 65521 bytes of SplitMix64, repeated.
const PERIOD = 65521;
const pattern = Buffer.alloc(PERIOD + 7);
for (let word = 1n, at = 0; at < PERIOD; word += 1n, at += 8) {
  let z = BigInt.asUintN(64, word * 0x9E3779B97F4A7C15n);
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xBF58476D1CE4E5B9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94D049BB133111EBn);
  pattern.writeBigUInt64LE(z ^ (z >> 31n), at);
}

function bytes(offset, length) {
  const body = Buffer.alloc(length);
  for (let done = 0; done < length;) {
    const from = (offset + done) % PERIOD;
    done += pattern.copy(body, done, from, Math.min(PERIOD, from + length - done));
  }
  return body;
}

const begun = Date.now();
let stopping = false;

function answer(response, status, body) {
  if (stopping) response.setHeader('Connection', 'close');
  response.writeHead(status, { 'Content-Length': body.length });
  response.end(body);
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://x');
  const [, word, number] = url.pathname.split('/');
  if (MODE === 'hang') return;
  const isOld = Date.now() - begun > GOOD_MS;
  if (MODE === '500' || (MODE === 'sours' && isOld)) return answer(response, 500, Buffer.from('broken'));
  if (MODE === 'slows' && isOld) return setTimeout(() => answer(response, 200, Buffer.from(VERSION)), SLOW_MS);
  if (word === 'health' || word === 'version') return answer(response, 200, Buffer.from(VERSION));
  const body = word === 'bytes'
    ? bytes(Number(url.searchParams.get('offset') ?? 0), Number(number))
    : Buffer.from(VERSION);
  setTimeout(() => answer(response, 200, body), word === 'slow' ? Number(number) : WORK_MS);
});

process.on('SIGTERM', () => {
  stopping = true;
  // The socket itself stays with the supervisor; who is being answered is answered.
  server.close(() => process.exit(0));
  // Node 18 does not do it by itself.
  server.closeIdleConnections();
});

if (MODE === 'deaf') {
  // It lives, and never accepts.
  setInterval(() => {}, 1000);
} else {
  server.listen({ fd: 3 });
}
