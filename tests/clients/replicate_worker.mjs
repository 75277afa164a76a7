// The npm client as the kit runs it: a line of JSON for each call. An argument `poll` makes it poll, not wait.
import { createInterface } from 'node:readline'
import Replicate from 'replicate'

const wait = process.argv[2] === 'poll' ? { mode: 'poll', interval: 20 } : undefined

for await (const line of createInterface({ input: process.stdin })) {
  const { model, input, token, base_url } = JSON.parse(line)
  const replicate = new Replicate({ auth: token, baseUrl: `${base_url}/v1` })
  try {
    console.log(JSON.stringify({ output: await replicate.run(model, { input, wait }) }))
  } catch (error) {
    console.log(JSON.stringify({ error: error.message }))
  }
}
