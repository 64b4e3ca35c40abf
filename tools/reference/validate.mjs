// Validate an AsyncAPI document: `node tools/reference/validate.mjs docs/reference/asyncapi.yaml`.
// Needs `npm install --prefix build/asyncapi @asyncapi/parser`.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Parser } = createRequire(`${process.cwd()}/build/asyncapi/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf-8"));
const problems = diagnostics.filter((each) => each.severity < 2); // errors and warnings
for (const each of problems) console.log(`${each.path.join(".")}: ${each.message}`);
console.log(document && !problems.length ? "the AsyncAPI document is valid" : "the AsyncAPI document is not valid");
process.exit(document && !problems.length ? 0 : 1);
