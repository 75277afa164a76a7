// One call of a client: a line of JSON in, a line of JSON out. The way it tries again costs money.
import { text } from 'node:stream/consumers'

const call = JSON.parse(await text(process.stdin))
const headers = { Authorization: `Bearer ${call.token}`, 'Content-Type': 'application/json' }

async function api(path, options, attempts = 3) {
  try {
    const answer = await fetch(`${call.base_url}/v1${path}`, { headers, ...options })
    if (!answer.ok) throw new Error(`status ${answer.status}`)
    return await answer.json()
  } catch (error) {
    if (attempts > 1) return api(path, options, attempts - 1)
    throw error
  }
}

try {
  const body = JSON.stringify({ input: call.input })
  let prediction = await api(`/models/${call.model}/predictions`, { method: 'POST', body })
  while (['starting', 'processing'].includes(prediction.status)) {
    await new Promise((resolve) => setTimeout(resolve, 25))
    prediction = await api(`/predictions/${prediction.id}`)
  }
  if (prediction.status !== 'succeeded') throw new Error(prediction.status)
  console.log(JSON.stringify({ output: prediction.output }))
} catch (error) {
  console.log(JSON.stringify({ error: error.message }))
}
